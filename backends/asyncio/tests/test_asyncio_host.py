"""Guests in an asyncio loop that somebody else runs."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

PRELUDE = """
import asyncio, gc, os, sys, threading
import asyncio_guest
STRATEGY = sys.argv[1]
async def main():
    await asyncio.sleep(0.01)
    return await asyncio.to_thread(lambda: 7)
"""


@pytest.fixture(params=["watch", "waiter"])
def program(request: Any, run_program: Any) -> Any:
    """Run a program below `PRELUDE` with each strategy."""

    def run(source: str) -> list[str]:
        out: str = run_program(PRELUDE + textwrap.dedent(source), request.param)
        return out.splitlines()

    return run


def test_the_hosts_loop_and_task_are_intact(program: Any) -> None:
    assert program("""
        async def application():
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            ended = loop.create_future()
            guest = asyncio_guest.start(main(), host=loop, done_callback=ended.set_result, strategy=STRATEGY)
            print(guest.loop is loop, asyncio.get_running_loop() is loop, asyncio.current_task() is task)
            print((await ended).unwrap(), asyncio.get_running_loop() is loop, asyncio.current_task() is task)
        asyncio.run(application())
    """) == ["False True True", "7 True True"]


def test_started_before_the_host_runs(program: Any) -> None:
    assert program("""
        loop = asyncio.new_event_loop()
        hooks = sys.get_asyncgen_hooks()
        asyncio_guest.start(main(), host=loop, strategy=STRATEGY,
                            done_callback=lambda outcome: (print(outcome.unwrap()), loop.stop()))
        print(sys.get_asyncgen_hooks() == hooks)
        loop.run_forever()
        print(sys.get_asyncgen_hooks() == hooks)
        loop.close()
    """) == ["True", "7", "True"]


def test_run_leaves_nothing_behind(program: Any) -> None:
    assert program("""
        def left():
            return len(os.listdir("/proc/self/fd")), threading.active_count()
        print(asyncio_guest.run(main(), host="asyncio", strategy=STRATEGY))
        gc.collect()
        before = left()
        for _ in range(50):
            asyncio_guest.run(asyncio.sleep(0), host="asyncio", strategy=STRATEGY)
        gc.collect()
        print(left() == before)
    """) == ["7", "True"]


def test_loops_that_cannot_be_a_host(program: Any) -> None:
    assert program("""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
        def refused():
            try:
                asyncio_guest.start(main(), host=loop, strategy=STRATEGY)
            except RuntimeError as exc:
                print(str(exc).partition(":")[0])
        refused()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        refused()
    """) == ["the host's event loop runs on another thread", "the host's event loop is closed"]


def test_programs_with_loops_of_their_own(program: Any) -> None:
    """The loop that was about to run counted as the running one, and was taken for its own host."""
    assert program("""
        asyncio_guest.install("asyncio", strategy=STRATEGY)
        print(asyncio.run(main()))
        loop = asyncio.new_event_loop()
        loop.call_later(0.01, loop.stop)
        hooks = sys.get_asyncgen_hooks()
        loop.run_forever()
        print(sys.get_asyncgen_hooks() == hooks, loop.is_running(), loop.run_until_complete(main()))
        loop.close()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            print("none runs")
        print(asyncio_guest.totals()["turns"] > 3)
    """) == ["7", "True False 7", "none runs", "True"]


def test_the_hosts_own_loop_is_not_the_policys(program: Any) -> None:
    """A policy that hands out one loop only, as those of test_runners do, gave the guest itself for a host."""
    assert program("""
        class Policy(asyncio.DefaultEventLoopPolicy):
            loop = asyncio.new_event_loop()
            def new_event_loop(self):
                return self.loop
        asyncio.set_event_loop_policy(Policy())
        asyncio_guest.install("asyncio", strategy=STRATEGY)
        print(asyncio.run(main()))
    """) == ["7"]
