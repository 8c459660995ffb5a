"""Ctrl-C, as asyncio.Runner has it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import asyncio_guest
import pytest
from hosts import QueueHost

STRATEGIES = ("watch", "waiter")


def _interrupt_later(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()
    return timer


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_first_cancels_main_while_the_host_blocks(strategy: str) -> None:
    seen: list[Any] = []

    async def main() -> None:
        try:
            _interrupt_later(0.05)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asyncio_guest.run(main(), host="poll", strategy=strategy)
    assert seen == ["cancelled"]
    assert time.monotonic() - began < 5


def test_main_may_swallow_the_first() -> None:
    async def main() -> str:
        try:
            _interrupt_later(0.02)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    assert asyncio_guest.run(main(), host="poll") == "swallowed"


def test_second_raises() -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("first")
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            except KeyboardInterrupt:
                seen.append("second")
                raise

    with pytest.raises(KeyboardInterrupt):
        asyncio_guest.run(main(), host="poll")
    assert seen == ["first", "second"]


def test_second_while_the_host_blocks() -> None:
    """The task ignores its cancellation; the second one comes out of poll(2) itself."""

    async def main() -> None:
        _interrupt_later(0.02)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            _interrupt_later(0.02)
            await asyncio.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        asyncio_guest.run(main(), host="poll")


def test_in_a_host_callback(queue_host: QueueHost) -> None:
    async def main() -> None:
        queue_host.call(os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        queue_host.run(main())


def test_after_main(queue_host: QueueHost) -> None:
    """Python's own handler is back during the teardown."""

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    async def main() -> None:
        keep.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    keep: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        queue_host.run(main())


def test_handler_of_the_program_is_left_alone(queue_host: QueueHost) -> None:
    seen: list[int] = []

    def handler(*args: object) -> None:
        seen.append(1)

    async def main() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.01)
        return "ok"

    old = signal.signal(signal.SIGINT, handler)
    try:
        assert queue_host.run(main()) == "ok"
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, old)
    assert seen == [1]

    async def takes_over() -> None:
        signal.signal(signal.SIGINT, handler)

    try:
        queue_host.run(takes_over())
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, old)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_loop_signal_handler_while_the_host_blocks(strategy: str) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        fired = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, fired.set_result, "usr1")
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        result: str = await asyncio.wait_for(fired, 5)
        assert loop.remove_signal_handler(signal.SIGUSR1)
        # The last handler is gone, and asyncio has unset the wakeup descriptor: Ctrl-C must still be prompt.
        try:
            _interrupt_later(0.02)
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return result
        return "late"

    assert asyncio_guest.run(main(), host="poll", strategy=strategy) == "usr1"
