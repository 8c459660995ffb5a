from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["pytester"]


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def balance() -> Iterator[None]:
    """Each test leaves descriptors, threads, signals and the thread's asyncio state as it found them."""
    from asyncio_guest import _core

    gc.collect()
    descriptors, threads = _descriptors(), set(threading.enumerate())
    hooks = sys.get_asyncgen_hooks()
    yield
    gc.collect()
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
    assert _core.current_guest() is None, "a guest is left on the thread"
    assert asyncio._get_running_loop() is None
    assert sys.get_asyncgen_hooks() == hooks
    assert sys.get_coroutine_origin_tracking_depth() == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fd = signal.set_wakeup_fd(-1)
    assert fd == -1, f"the wakeup descriptor is left at {fd}"
    assert set(threading.enumerate()) <= threads
    assert _descriptors() <= descriptors, "a descriptor leaked"


@pytest.fixture
def queue_host() -> Any:
    from hosts import QueueHost

    return QueueHost()


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program (its source) in an interpreter of its own: ``python(source, *args, before=(), timeout=30)``."""

    def run(
        source: str, *args: str, before: tuple[str, ...] = (), timeout: float = 30, name: str = "program.py"
    ) -> subprocess.CompletedProcess[str]:
        path = tmp_path / name
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return subprocess.run(
            [sys.executable, *before, str(path), *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        )

    return run
