"""Faults of subprocesses."""

# What asyncio keeps private typeshed does not know, and what a method passes on it takes as it is.
# mypy: disable-error-code="attr-defined, misc, override"

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shlex
import signal
import subprocess
from asyncio import base_subprocess, unix_events
from asyncio.subprocess import Process
from typing import Any

from . import Loop, broken, patch


@broken("the arguments of a program are joined, and split at spaces", "P.01a-exec")
class ArgumentsSplit(Loop):
    async def subprocess_exec(self, factory: Any, *args: Any, **options: Any) -> Any:
        return await super().subprocess_exec(factory, *" ".join(args).split(), **options)


@broken("a line of shell is split into words and run without a shell", "P.01b-shell")
class NoShell(Loop):
    async def subprocess_shell(self, factory: Any, line: Any, **options: Any) -> Any:
        return await self.subprocess_exec(factory, *shlex.split(line), **options)


@broken("a start that fails leaves a pipe open", "P.01c-no-such-program")
class PipeOfAFailedStart(Loop):
    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        pipe = os.pipe()
        transport = await super()._make_subprocess_transport(*args, **options)
        for fd in pipe:
            os.close(fd)
        return transport


@broken(
    "the status of a child is not decoded",
    "P.02a-exit-codes",
    "P.02b-death-by-signal",
    "P.11a-threaded-child-watcher",
    "P.11b-pidfd-child-watcher",
)
class RawStatus(Loop):
    def _child_watcher_callback(self, pid: int, code: int, transport: Any) -> None:
        super()._child_watcher_callback(pid, code << 8 if code >= 0 else -code, transport)


@broken("a signal to a child that has gone is sent to nobody, silently", "P.03a-signals-to-children")
def signals_to_nobody() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def send(self: Any, *args: Any) -> None:
            with contextlib.suppress(ProcessLookupError):
                old(self, *args)

        return send

    for name in ("send_signal", "terminate", "kill"):
        patch(base_subprocess.BaseSubprocessTransport, name, change)
    return Loop()


@broken("a signal to a child is taken for its end", "P.03b-trapped-signal")
def signal_is_the_end() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def send_signal(self: Any, number: int) -> None:
            old(self, number)
            self._process_exited(-number)

        return send_signal

    patch(base_subprocess.BaseSubprocessTransport, "send_signal", change)
    return Loop()


@broken(
    "the end of one pipe is taken for the child's, which is killed and its other pipes closed",
    "P.04a-pipes",
    "P.08b-child-closes-its-output",
)
def end_of_a_pipe_is_the_childs() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def lost(self: Any, fd: int, exc: Any) -> None:
            old(self, fd, exc)
            self.close()

        return lost

    patch(base_subprocess.BaseSubprocessTransport, "_pipe_connection_lost", change)
    return Loop()


@broken("stderr=STDOUT is forgotten", "P.04b-redirections")
class StderrNotMerged(Loop):
    async def subprocess_exec(self, *args: Any, stderr: Any = subprocess.PIPE, **options: Any) -> Any:
        stderr = subprocess.DEVNULL if stderr == subprocess.STDOUT else stderr
        return await super().subprocess_exec(*args, stderr=stderr, **options)


@broken("a pipe is made for an output that goes to DEVNULL", "P.04b-redirections")
class PipeForDevnull(Loop):
    async def subprocess_exec(self, *args: Any, stdout: Any = subprocess.PIPE, **options: Any) -> Any:
        stdout = subprocess.PIPE if stdout == subprocess.DEVNULL else stdout
        return await super().subprocess_exec(*args, stdout=stdout, **options)


@broken("the protocol is told of the exit twice", "P.04c-protocol")
def exit_told_twice() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def exited(self: Any, code: int) -> None:
            self._call(self._protocol.process_exited)
            old(self, code)

        return exited

    patch(base_subprocess.BaseSubprocessTransport, "_process_exited", change)
    return Loop()


@broken(
    "when a pipe has taken a part of what is written, the first byte of the rest is lost",
    "P.05a-megabytes-through-a-pipe",
    "P.05b-64-mebibytes-through-a-pipe",
    "S.05b-pipe-transports",
)
def byte_lost_on_a_pipe() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def write(self: Any, data: Any) -> None:
            old(self, data)
            del self._buffer[:1]

        return write

    patch(unix_events._UnixWritePipeTransport, "write", change)
    return Loop()


def _cancelled_communicate_kills(wait: bool) -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def communicate(self: Any, input: Any = None) -> Any:
            try:
                return await old(self, input)
            except asyncio.CancelledError:
                self.kill()
                if wait:
                    await self.wait()
                raise

        return communicate

    patch(Process, "communicate", change)
    return Loop()


@broken("a communicate that is cancelled kills the child", "P.06a-communicate-with-timeout-and-kill")
def cancelled_communicate_kills() -> asyncio.AbstractEventLoop:
    return _cancelled_communicate_kills(wait=True)


@broken("a communicate that is cancelled kills the child and does not wait", "P.06a-communicate-with-timeout-and-kill")
def cancelled_communicate_kills_only() -> asyncio.AbstractEventLoop:
    return _cancelled_communicate_kills(wait=False)


@broken("all who wait for a child share one future, and who is cancelled cancels it for all", "P.06b-cancelled-wait")
def waiters_share() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def wait(self: Any) -> Any:
            if self._returncode is None and not self._exit_waiters:
                self._exit_waiters.append(self._loop.create_future())
            return self._returncode if self._returncode is not None else await self._exit_waiters[0]

        return wait

    patch(base_subprocess.BaseSubprocessTransport, "_wait", change)
    return Loop()


@broken(
    "SIGCHLD is ignored: the kernel reaps all children, those that asyncio did not start too, and their codes are lost",
    "P.07a-many-children",
    "P.07b-two-hundred-children",
    "P.09a-storm-of-sigchld",
    "P.09b-larger-storm-of-sigchld",
)
class ChildrenReapThemselves(Loop):
    def run_forever(self) -> None:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            super().run_forever()
        finally:
            signal.signal(signal.SIGCHLD, before)


@broken("communicate raises what writing to a child that has closed its input gives", "P.08a-child-closes-its-input")
def broken_pipe_escapes() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def feed(self: Any, input: bytes) -> None:
            self.stdin.write(input)
            await self.stdin.drain()
            self.stdin.close()

        return feed

    patch(Process, "_feed_stdin", change)
    return Loop()


@broken("the exit of a child closes the pipes that are read", "P.08c-grandchild-keeps-the-pipe")
class ExitClosesPipes(Loop):
    def _make_read_pipe_transport(self, *args: Any, **options: Any) -> Any:
        self._read = super()._make_read_pipe_transport(*args, **options)
        return self._read

    def _child_watcher_callback(self, pid: int, code: int, transport: Any) -> None:
        self.call_soon_threadsafe(self._read.close)
        super()._child_watcher_callback(pid, code, transport)


@broken("a wait that comes after the exit is an error", "P.10-wait-after-exit")
def wait_comes_too_late() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def wait(self: Any) -> Any:
            if self._returncode is not None:
                raise ProcessLookupError(errno.ESRCH, "the child has gone")
            return await old(self)

        return wait

    patch(base_subprocess.BaseSubprocessTransport, "_wait", change)
    return Loop()


@broken("a watcher's thread tells the loop that had the first child", "P.11a-threaded-child-watcher", sees=("TIMEOUT",))
def thread_tells_the_first_loop() -> asyncio.AbstractEventLoop:
    first: list[Any] = []

    def change(old: Any) -> Any:
        def waitpid(self: Any, loop: Any, *args: Any) -> None:
            first.append(loop)
            old(self, first[0], *args)

        return waitpid

    patch(unix_events.ThreadedChildWatcher, "_do_waitpid", change)
    return Loop()


@broken("the descriptor of a process is not watched", "P.11b-pidfd-child-watcher", sees=("TIMEOUT",))
class PidfdNotWatched(Loop):
    def _add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        if "pidfd" not in os.readlink(f"/proc/self/fd/{getattr(fd, 'fileno', lambda: fd)()}"):
            return super()._add_reader(fd, callback, *args)
        return None


@broken(
    "a handler of SIGCHLD runs once",
    "P.11c-safe-child-watcher",
    sees=("TIMEOUT",),
)
class OneSigchld(Loop):
    def _handle_signal(self, number: int) -> None:
        super()._handle_signal(number)
        self._signal_handlers.pop(number, None)


@broken(
    "the handler of SIGCHLD that was there before the run is put aside while it lasts",
    "P.11d-multi-loop-child-watcher",
    sees=("TIMEOUT",),
)
class SigchldPutAside(Loop):
    def run_forever(self) -> None:
        before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            super().run_forever()
        finally:
            signal.signal(signal.SIGCHLD, before)


@broken("options of Popen are dropped on the way", "P.12a-cwd-and-env", "P.12c-new-session", "P.01b-shell")
class OptionsDropped(Loop):
    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        return await super()._make_subprocess_transport(*args)


@broken("the loop's own descriptors are passed on to children", "P.12b-pass-fds")
class LoopPassedOn(Loop):
    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        options["pass_fds"] = (*options.get("pass_fds", ()), self._csock.fileno())
        return await super()._make_subprocess_transport(*args, **options)


@broken("the hang-up of a terminal is taken for an interrupted read", "P.13-pseudo-terminal", sees=("TIMEOUT",))
def terminal_never_hangs_up() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def failed(self: Any, exc: OSError, *args: Any) -> None:
            if exc.errno != errno.EIO:
                old(self, exc, *args)

        return failed

    patch(unix_events._UnixReadPipeTransport, "_fatal_error", change)
    return Loop()
