"""The mirror of a selector that has no descriptor."""

from __future__ import annotations

import os
import select
import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from asyncio_guest._mirror import Mirror, mirror_of

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture(params=["PollSelector", "SelectSelector"])
def selector(request: Any) -> Iterator[selectors.BaseSelector]:
    selector = getattr(selectors, request.param)()
    yield selector
    selector.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def _readable(mirror: Mirror) -> bool:
    return bool(select.select([mirror.fileno()], [], [], 0)[0])


def test_follows_the_map(selector: selectors.BaseSelector, pair: tuple[socket.socket, socket.socket]) -> None:
    a, b = pair
    selector.register(a, READ)  # before the mirror
    mirror = Mirror(selector)
    try:
        assert mirror_of(selector) is mirror
        assert not _readable(mirror)
        b.send(b"x")
        assert _readable(mirror)
        selector.unregister(a)
        assert not _readable(mirror)
        key = selector.register(a, WRITE, "data")
        assert key == selectors.SelectorKey(a, a.fileno(), WRITE, "data")
        assert _readable(mirror)
        assert selector.modify(a, READ, "other").data == "other"
        assert _readable(mirror)
        a.recv(1)
        assert not _readable(mirror)
        selector.modify(a, READ | WRITE)
        assert _readable(mirror)
        assert [key.fd for key, _ in selector.select(0)] == [a.fileno()]
    finally:
        mirror.close()
    assert mirror.closed
    assert mirror_of(selector) is None
    assert not {"register", "unregister", "modify"} & set(vars(selector))
    selector.unregister(a)
    mirror.close()


def test_errors_of_the_selector_are_its_own(
    selector: selectors.BaseSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    a, _ = pair
    mirror = Mirror(selector)
    with pytest.raises(KeyError):
        selector.unregister(a)
    selector.register(a, READ)
    with pytest.raises(KeyError):
        selector.register(a, READ)
    with pytest.raises(ValueError):
        selector.register(a, 0)
    mirror.close()


def test_regular_files_are_always_due(selector: selectors.BaseSelector, tmp_path: Any) -> None:
    with open(tmp_path / "file", "w+") as file:
        mirror = Mirror(selector)
        assert not mirror.always_due
        selector.register(file, READ)
        assert mirror.always_due
        assert selector.select(0)  # poll(2) and select(2) call it ready
        selector.unregister(file)
        assert not mirror.always_due
        mirror.close()


def test_descriptor_closed_and_its_number_taken_again(selector: selectors.BaseSelector) -> None:
    mirror = Mirror(selector)
    read, write = os.pipe()
    selector.register(read, READ)
    os.close(read)
    os.close(write)
    read2, write2 = os.pipe()
    try:
        assert read2 == read
        os.write(write2, b"x")
        selector.modify(read, READ, "again")  # what asyncio does for a descriptor that it knows
        assert _readable(mirror)
        assert selector.select(0)
        selector.unregister(read)
        assert not _readable(mirror)
    finally:
        os.close(read2)
        os.close(write2)
        mirror.close()


def test_only_exact_classes() -> None:
    class Mine(selectors.PollSelector):
        pass

    for selector in (Mine(), selectors.EpollSelector()):
        with pytest.raises(TypeError):
            Mirror(selector)
        selector.close()
