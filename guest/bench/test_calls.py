"""What calls of the package cost, by pytest-benchmark; run by `make bench`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import asyncio_guest

pytest.importorskip("pytest_benchmark")


async def nothing() -> int:
    return 1


def test_plain_run(benchmark: Any) -> None:
    """The reference: ``asyncio.run`` of a coroutine that returns at once."""
    assert benchmark(lambda: asyncio.run(nothing())) == 1


def test_guest_run(benchmark: Any) -> None:
    """A guest from start to end: loop, attach, turns, teardown."""
    assert benchmark(lambda: asyncio_guest.run(nothing(), host="poll")) == 1


@pytest.fixture
def installed() -> Iterator[None]:
    uninstall = asyncio_guest.install("poll")
    yield
    uninstall()


def test_installed_run(benchmark: Any, installed: None) -> None:
    """``asyncio.run`` of a program whose loops are guests."""
    assert benchmark(lambda: asyncio.run(nothing())) == 1


class Inside:
    """A guest that is alive while something else is timed."""

    def __enter__(self) -> asyncio_guest.Guest:
        self._forever = asyncio_guest.start(asyncio.sleep(3600), host="poll", done_callback=lambda outcome: None)
        return self._forever

    def __exit__(self, *_: object) -> None:
        self._forever.cancel()
        self._forever._driver.drive()


def test_counters(benchmark: Any) -> None:
    with Inside() as guest:
        assert benchmark(lambda: guest.counters)["busy"] == 0


def test_info(benchmark: Any) -> None:
    with Inside() as guest:
        assert benchmark(lambda: guest.info).host == "poll"


def test_wake(benchmark: Any) -> None:
    with Inside() as guest:
        benchmark(guest.wake)


@pytest.mark.parametrize("where", ["plain", "poll"])
def test_call_soon_outside_a_turn(benchmark: Any, where: str) -> None:
    """What a button's handler pays to schedule a callback (and forget it), against a loop that does not run."""
    def measure(loop: Any) -> None:
        def schedule() -> None:
            loop.call_soon(int)
            loop._ready.pop()

        benchmark(schedule)

    if where == "plain":
        loop = asyncio.new_event_loop()
        measure(loop)
        loop.close()
    else:
        with Inside() as guest:
            measure(guest.loop)
