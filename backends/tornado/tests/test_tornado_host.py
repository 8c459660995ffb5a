"""Guests in Tornado's IOLoop."""

from __future__ import annotations

import importlib.util
import textwrap
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tornado") is None, reason="Tornado is missing; on Debian: apt-get install python3-tornado"
)


@pytest.mark.parametrize("strategy", ["watch", "waiter"])
def test_in_the_programs_own_ioloop(strategy: str, run_program: Any) -> None:
    out = run_program(
        textwrap.dedent("""
        import asyncio, sys
        import asyncio_guest
        from tornado.ioloop import IOLoop
        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(lambda: 7)
        async def application():
            loop = asyncio.get_running_loop()
            ended = loop.create_future()
            asyncio_guest.start(main(), host=IOLoop.current(), done_callback=ended.set_result, strategy=sys.argv[1])
            print((await ended).unwrap(), asyncio.get_running_loop() is loop)
        IOLoop(make_current=False).run_sync(application)
        loop = IOLoop(make_current=False)
        asyncio_guest.start(main(), host=loop, strategy=sys.argv[1],
                            done_callback=lambda outcome: (print(outcome.unwrap()), loop.stop()))
        loop.start()
        print(asyncio_guest.run(main(), host="tornado", strategy=sys.argv[1]))
        """),
        strategy,
    )
    assert out.splitlines() == ["7 True", "7", "7"]
