"""Every event loop of an unchanged program as a guest of one host."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

from . import _core, _totals
from ._hosts import Backend, Host, backend_of, open_backend
from ._running import RunForever, on_main_thread
from ._session import Session
from ._warnings import HostDiedWarning

_stock = asyncio.BaseEventLoop.run_forever
_lock = threading.Lock()


def _set_run_forever(function: Callable[[asyncio.BaseEventLoop], None]) -> None:
    setattr(asyncio.BaseEventLoop, "run_forever", function)


def _check_engine(engine: str | None) -> None:
    """Raise what the core raises if a forced engine cannot run the interpreter's own event loop."""
    if engine is None:
        return
    loop = asyncio.SelectorEventLoop()
    try:
        _core.Guest(
            loop,
            on_stop=lambda exc: False,
            on_done=lambda: None,
            on_host_died=lambda: None,
            ops=_core.poll_ops,
            engine=engine,
        ).detach()
    finally:
        loop.close()


class Installation:
    """What `install` returns: call it, or leave its ``with`` block, to undo the installation.

    Runs that have begun as guests end as guests.
    """

    def __init__(
        self, host: object, threads: Literal["poll", "error"], engine: str | None, strategy: str | None
    ) -> None:
        self.host = host
        self.options = (threads, engine, strategy)
        self._obj = None if isinstance(host, (str, Host)) else host
        self._backend: Backend | None = None if isinstance(host, Host) else backend_of(host)
        self._thread = threading.get_ident()
        self._forked = False
        self._local = threading.local()
        if self._backend is not None:
            missing = self._backend.missing()
            if missing is not None:
                open_backend(self._backend, self._obj)  # raises, naming the remedy
        _check_engine(engine)

    def __call__(self) -> None:
        """Undo the installation.  Idempotent."""
        global _installed
        with _lock:
            if _installed is self:
                _installed = None
                _set_run_forever(_stock)

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self()

    def forked(self) -> None:
        """In a forked child the toolkit is not usable: runs go to ``poll``."""
        self._forked = True
        self._local = threading.local()
        self._thread = threading.get_ident()

    def _open_here(self) -> Host:
        """The host of this thread; opened once a thread."""
        host: Host | None = getattr(self._local, "host", None)
        if host is not None:
            return host
        if isinstance(self.host, Host):
            host = self.host
        else:
            assert self._backend is not None
            if self._obj is not None and threading.get_ident() != self._thread:
                raise RuntimeError(f"the {self._backend.name} object given to install() belongs to another thread")
            host = open_backend(self._backend, self._obj)
        self._local.host = host
        return host

    def apart(self) -> bool:
        """Is this thread's host itself asyncio?  Asked, and so opened, before the loop that is to be its guest counts as
        the running one: the host of the name ``asyncio`` is the loop that runs."""
        if self._forked or getattr(self._local, "refused", False):
            return False
        try:
            return self._open_here().apart
        except Exception:
            return False  # `attach` meets it again

    def attach(self, run: _Run) -> tuple[str, ...]:
        """Attach the guest of `run` on this thread; returns the names to count it under."""
        threads, engine, strategy = self.options
        if not self._forked and not getattr(self._local, "refused", False):
            main = threading.get_ident() == self._thread or threading.current_thread() is threading.main_thread()
            try:
                run.attach(self._open_here(), engine, strategy)
                return ()
            except Exception:
                if main or threads == "error":
                    raise
                self._local.refused = True
        run.attach(Host(_core.poll_ops), engine, strategy)
        return ("fallback",)


_installed: Installation | None = None


class _Run(Session):
    """One ``run_forever`` as a guest: over as soon as the loop is stopped or an iteration raises."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.error: BaseException | None = None

    def attach(self, host: Host, engine: str | None, strategy: str | None) -> None:
        core = _core.Guest(
            self.loop,
            on_stop=self.on_stop,
            on_done=self.on_done,
            on_host_died=self.on_host_died,
            ops=host.ops,
            toolkit=host.toolkit,
            own_wakeup_fd=on_main_thread(),
            engine=engine,
            strategy=strategy,
            # A program's loops differ: those that the engine cannot run keep their own iteration.
            engine_required=False,
        )
        self.opened(core)
        try:
            core.attach()
        except BaseException:
            self.forget()
            core.detach()
            raise

    def on_stop(self, exc: BaseException | None) -> bool:
        self.error = exc
        return False

    def on_done(self) -> None:
        pass

    def on_host_died(self) -> None:
        """The program knows no host that could end: it goes on, on poll(2), as it would without one."""
        warnings.warn(
            f"the host {self.core.host_name!r} has gone; the program's event loop goes on without it",
            HostDiedWarning,
            stacklevel=2,
        )
        self.core.finish_on_poll(math.inf)

    def drive(self) -> None:
        """Iterate, in the host, until the loop is stopped."""
        self.core.run()
        if not self.core.done:
            self.on_host_died()
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error


@functools.wraps(_stock)
def _run_forever(self: asyncio.BaseEventLoop) -> None:
    installed = _installed
    if installed is None:
        return _stock(self)
    # First: 3.13.0's own run_forever cleans up after a set-up that was refused, and so breaks the run it met.
    loop: Any = self
    loop._check_closed()
    loop._check_running()
    if _core.current_guest() is not None:
        # Inside another guest's turn or host callback, by a program that has unset the running loop.
        _totals.count("runs_nested")
        return _stock(self)
    running = RunForever(self)
    running.enter(hosted=True, apart=installed.apart())
    try:
        run = _Run(self)
        names = installed.attach(run)
        try:
            run.drive()
        finally:
            if not run.core.done:
                run.core.detach()
            run.closed(*names)
    finally:
        running.leave()


def install(
    host: object,
    *,
    threads: Literal["poll", "error"] = "poll",
    engine: str | None = None,
    strategy: str | None = None,
) -> Installation:
    """Make every ``run_forever`` of the process run as a guest inside `host`'s main loop.

    That covers ``run_until_complete``, ``asyncio.run`` and ``asyncio.Runner`` of an unchanged program,
    repeatedly and on all threads.  Loop classes, factories and policies stay as they are; a loop class that has a
    ``run_forever`` of its own is left alone.

    host
        a name or a toolkit's object, as of `start`
    threads
        what happens on a thread that the toolkit refuses: ``"poll"`` runs its loops on the ``poll`` host (counted
        apart: ``guests_fallback`` of `totals`), ``"error"`` raises the backend's error
    engine, strategy
        forced for all runs, as of `start`; a loop that the engine cannot run (another selector, an overridden
        ``_run_once``) runs by ``stock``, which `totals` shows. An engine that cannot run the interpreter's own
        event loop is refused

    Returns an uninstaller.  Installing the same again returns the same one; another host, or other options,
    are refused with a RuntimeError.  Raises ValueError, TypeError or HostUnavailable for the host.
    """
    global _installed
    if threads not in ("poll", "error"):
        raise ValueError(f"threads must be 'poll' or 'error', not {threads!r}")
    with _lock:
        if _installed is not None:
            same = _installed.host is host or (isinstance(host, str) and _installed.host == host)
            if same and _installed.options == (threads, engine, strategy):
                return _installed
            raise RuntimeError(f"already installed with the host {_installed.host!r}: uninstall that first")
        installation = Installation(host, threads, engine, strategy)
        _set_run_forever(_run_forever)
        _installed = installation
        return installation


def installed() -> Installation | None:
    """The installation in force, or None."""
    return _installed


def after_fork_child() -> None:
    """Runs that begin in a forked child go to ``poll``."""
    global _lock
    _lock = threading.Lock()
    if _installed is not None:
        _installed.forked()


