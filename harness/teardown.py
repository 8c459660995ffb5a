"""What is left in a process after a case.  Imported in cells only."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import gc
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

SETTLE_S = 1.0
"""How long what is on its way out (a thread between its last instruction and its end) may take."""


@dataclasses.dataclass
class Snapshot:
    """Descriptors, threads, children, wakeup descriptor and SIGINT's handler of this process."""

    fds: dict[int, str]
    threads: dict[int, str]
    children: dict[int, str]
    wakeup_fd: int
    sigint: Any


LIBFFI = re.compile(r"/libffi\.so[.0-9]*$")
"""libffi 3.4 and later opens its own file at the first closure (of ctypes, of PyGObject) and maps its trampolines from it
for the rest of the process's life; Debian 12's is built without.  One such descriptor is no leak, a second one is."""
FONT_FILE = re.compile(r"/(usr|etc|var)/(.+/)?(fonts?|fontconfig)(/|$)")
"""What a thread of a toolkit's may have open for a moment when the case begins: Pango's reads the fonts."""


def _fds() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself
        if not (target.startswith("/proc/") and target.endswith("/fd")):
            found[int(name)] = target
    return found


def _threads() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/task"):
        try:
            found[int(name)] = Path(f"/proc/self/task/{name}/comm").read_text().strip()
        except OSError:
            continue
    for thread in threading.enumerate():
        if thread.native_id in found:
            found[thread.native_id] = thread.name
    return found


def _children() -> dict[int, str]:
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            pids = Path(f"/proc/self/task/{task}/children").read_text().split()
        except OSError:
            continue
        for pid in pids:
            try:
                found[int(pid)] = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                found[int(pid)] = "?"
    return found


def _wakeup_fd() -> int:
    if threading.current_thread() is not threading.main_thread():
        return -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        now = signal.set_wakeup_fd(-1)
        if now != -1:
            try:
                signal.set_wakeup_fd(now, warn_on_full_buffer=False)
            except (ValueError, OSError):
                pass  # it was closed under us: reported as changed
    return now


def snapshot() -> Snapshot:
    """What this process has now."""
    return Snapshot(_fds(), _threads(), _children(), _wakeup_fd(), signal.getsignal(signal.SIGINT))


def _kind(target: str) -> str:
    return re.sub(r"\[?\d+\]?$", "", target) if ":[" in target else target


def compare(
    before: Snapshot, process_fds: dict[str, int], ignored_threads: frozenset[str] = frozenset()
) -> dict[str, str]:
    """What there is more than `before`: verdict -> sentence.  Waits up to `SETTLE_S` for what is just ending.

    `process_fds`: how many descriptors of a kind (``anon_inode:[eventpoll]``) the backend keeps for the process's life.
    `ignored_threads`: patterns of the names of threads that it keeps as long.
    """
    deadline = time.monotonic() + SETTLE_S
    while True:
        found: dict[str, str] = {}
        now = snapshot()
        fds = {fd: target for fd, target in now.fds.items() if before.fds.get(fd) != target}
        kept = {fd: target for fd, target in before.fds.items() if not FONT_FILE.match(target)}
        lost = [fd for fd in kept if fd not in now.fds]
        allowed = collections.Counter(process_fds)
        trampolines = any(LIBFFI.search(target) for target in before.fds.values())
        extra = []
        for fd, target in sorted(fds.items()):
            if allowed[_kind(target)] > 0:
                allowed[_kind(target)] -= 1
            elif LIBFFI.search(target) and not trampolines and fd not in kept:
                trampolines = True
            elif fd in kept:
                extra.append(f"{fd} was {before.fds[fd]} and is {target}")
            else:
                extra.append(f"{fd} -> {target}")
        extra += [f"{fd} -> {before.fds[fd]} was closed" for fd in lost]
        if extra:
            found["LEAK_FD"] = ", ".join(extra)
        threads = {
            tid: name
            for tid, name in now.threads.items()
            if tid not in before.threads and not any(fnmatch.fnmatchcase(name, known) for known in ignored_threads)
        }
        if threads:
            found["LEAK_THREAD"] = ", ".join(threads.values())
        children = {pid: name for pid, name in now.children.items() if pid not in before.children}
        if children:
            found["LEAK_CHILD"] = ", ".join(children.values())
        if now.wakeup_fd != before.wakeup_fd:
            found["WAKEUP_FD_CHANGED"] = (
                f"was {'a descriptor' if before.wakeup_fd >= 0 else 'unset'}, "
                f"is {'another descriptor' if now.wakeup_fd >= 0 else 'unset'}"
            )
        if now.sigint is not before.sigint:
            found["UNCLEAN"] = f"SIGINT's handler was {before.sigint!r} and is {now.sigint!r}"
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


class Noise(logging.Handler):
    """Collects what asyncio and the interpreter say about things that were not cleaned up.

    A record that the case's own filter or handler keeps from propagating is not noise.
    """

    KINDS = (
        ("was destroyed but it is pending", "pending task destroyed"),
        ("was never retrieved", "exception never retrieved"),
        ("was never awaited", "coroutine never awaited"),
    )

    def __init__(self, own_files: frozenset[str] = frozenset()) -> None:
        super().__init__(logging.WARNING)
        self._own_files = own_files
        self.found: collections.Counter[str] = collections.Counter()
        self.first: dict[str, str] = {}
        self._showwarning = warnings.showwarning
        self._unraisable = sys.unraisablehook

    def install(self) -> None:
        logging.getLogger().addHandler(self)
        warnings.simplefilter("default", ResourceWarning)
        warnings.filterwarnings("always", category=ResourceWarning)
        warnings.showwarning = self._warned
        sys.unraisablehook = self._unraised

    def _add(self, kind: str, text: str) -> None:
        self.found[kind] += 1
        self.first.setdefault(kind, text[:500])

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        print(self.format(record), file=sys.stderr)
        for needle, kind in self.KINDS:
            if needle in text:
                self._add(kind, text)

    def _warned(self, message: Any, category: Any, filename: str, lineno: int, *rest: Any, **more: Any) -> None:
        if issubclass(category, ResourceWarning):
            self._add(f"ResourceWarning: {re.split(r'[<(0-9]', str(message))[0].strip()}", str(message))
        elif issubclass(category, RuntimeWarning) and "was never awaited" in str(message):
            self._add("coroutine never awaited", str(message))
        self._showwarning(message, category, filename, lineno, *rest, **more)

    def _unraised(self, unraisable: Any) -> None:
        trace = unraisable.exc_traceback
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is None or trace.tb_frame.f_code.co_filename not in self._own_files:
            # What a case raises in a host's callback goes the host's own way, which may be this one.
            text = f"{unraisable.err_msg}: {unraisable.exc_value!r}"
            self._add(f"unraisable {type(unraisable.exc_value).__name__}", text)
        self._unraisable(unraisable)

    def forget(self) -> None:
        """Begin anew."""
        self.found.clear()
        self.first.clear()

    def collect(self) -> dict[str, list[Any]]:
        """Kind -> [how often, the first of it], after a collection of garbage."""
        for _ in range(3):
            gc.collect()
        return {kind: [count, self.first[kind]] for kind, count in self.found.items()}
