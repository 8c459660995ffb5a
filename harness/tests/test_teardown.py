"""What counts as left behind by a case, and what does not."""

from __future__ import annotations

import os
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
