"""What counts as left behind by a case, and what does not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import teardown


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], int]]:
    """Opens files that the test closes, or this fixture."""
    monkeypatch.setattr(teardown, "SETTLE_S", 0.0)
    fds: list[int] = []

    def open_(path: Path) -> int:
        fds.append(os.open(path, os.O_RDONLY))
        return fds[-1]

    yield open_
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def file(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_an_open_descriptor_is_a_leak(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    before = teardown.snapshot()
    fd = opened(file(tmp_path, "some.txt"))
    assert teardown.compare(before, {})["LEAK_FD"] == f"{fd} -> {tmp_path}/some.txt"


def test_a_closed_descriptor_is_one_too(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    fd = opened(file(tmp_path, "some.txt"))
    before = teardown.snapshot()
    os.close(fd)
    assert teardown.compare(before, {})["LEAK_FD"] == f"{fd} -> {tmp_path}/some.txt was closed"


def test_a_file_of_the_system_may_not_be_closed_either(opened: Callable[[Path], int]) -> None:
    fd = opened(Path("/etc/passwd"))
    before = teardown.snapshot()
    os.close(fd)
    assert "LEAK_FD" in teardown.compare(before, {})


@pytest.mark.parametrize("path", [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "/etc/fonts/fonts.conf", "/var/cache/fontconfig/ab-le64.cache-7",
    "/usr/share/fonts",
])
def test_a_font_that_was_open_may_be_closed(path: str) -> None:
    now = teardown.snapshot()
    before = teardown.Snapshot({**now.fds, 9999: path}, now.threads, now.children, now.wakeup_fd, now.sigint)
    assert teardown.compare(before, {}) == {}


@pytest.mark.parametrize("path", ["/usr/lib/locale/C.utf8/LC_CTYPE", "/tmp/fonts/a.ttf", "/etc/ssl/openssl.cnf"])
def test_another_file_may_not(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teardown, "SETTLE_S", 0.0)
    now = teardown.snapshot()
    before = teardown.Snapshot({**now.fds, 9999: path}, now.threads, now.children, now.wakeup_fd, now.sigint)
    assert teardown.compare(before, {}) == {"LEAK_FD": f"9999 -> {path} was closed"}


def test_libffi_opens_its_own_file_once(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    library = file(tmp_path, "libffi.so.8.1.4")
    before = teardown.snapshot()
    first = opened(library)
    assert teardown.compare(before, {}) == {}
    second = opened(library)
    assert teardown.compare(before, {})["LEAK_FD"] == f"{max(first, second)} -> {library}"
    os.close(second)
    before = teardown.snapshot()
    second = opened(library)
    assert teardown.compare(before, {})["LEAK_FD"] == f"{second} -> {library}"


def test_libffi_may_get_the_number_of_a_font(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    now = teardown.snapshot()
    fd = opened(file(tmp_path, "libffi.so.8.5.0"))
    fds = {**now.fds, fd: "/usr/share/fontconfig/conf.avail"}
    before = teardown.Snapshot(fds, now.threads, now.children, now.wakeup_fd, now.sigint)
    assert teardown.compare(before, {}) == {}
    fds[fd] = "/etc/passwd"
    assert "was /etc/passwd and is" in teardown.compare(before, {})["LEAK_FD"]


def test_threads_are_known_by_patterns_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teardown, "SETTLE_S", 0.0)
    before, end = teardown.snapshot(), threading.Event()
    thread = threading.Thread(name="pool-0", target=end.wait)
    thread.start()
    try:
        assert teardown.compare(before, {}, frozenset({"pool"})) == {"LEAK_THREAD": "pool-0"}
        assert teardown.compare(before, {}, frozenset({"[[]pango] *", "pool*"})) == {}
    finally:
        end.set()
        thread.join()
