"""Group P: subprocesses."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from typing import Any, cast

from ..api import CaseContext, Unsupported, case
from ..support import PYTHON, digest, iterations, listen, outcome, pattern, settle


async def _sh(script: str, **options: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("/bin/sh", "-c", script, **options)


@case(
    "P.01a-exec",
    "`create_subprocess_exec` runs a program with its arguments as they are.",
    needs="subprocess",
    rejects="a loop without a child watcher",
)
async def exec_program(t: CaseContext) -> None:
    process = await asyncio.create_subprocess_exec("printf", "%s|", "a b", "$HOME", "", "*", stdout=PIPE)
    out, err = await process.communicate()
    t.log("output", [out.decode(), err, process.returncode])


@case(
    "P.01b-shell",
    "`create_subprocess_shell` runs a line of shell, pipes and expansions included.",
    needs="subprocess",
    rejects="a loop without a child watcher",
)
async def shell(t: CaseContext) -> None:
    process = await asyncio.create_subprocess_shell(
        'printf "%s\\n" one two three | sort; echo "$WORD" >&2',
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "WORD": "w"},
    )
    out, err = await process.communicate()
    t.log("output", [out.decode(), err.decode(), process.returncode])


@case(
    "P.01c-no-such-program",
    "A program that is not there, or may not be run, is an OSError and leaves nothing behind.",
    needs="subprocess",
    rejects="pipes left open by a failed start",
)
async def no_such_program(t: CaseContext) -> None:
    path = os.path.join(t.tmp, "not-executable")
    with open(path, "w") as file:
        file.write("#!/bin/sh\n")
    os.chmod(path, 0o644)
    first = await _sh(":", stdin=PIPE)  # what a loop opens for its first child and pipe, and keeps, is no leak
    assert first.stdin is not None
    first.stdin.close()
    await first.wait()
    await settle()
    before = len(os.listdir("/proc/self/fd"))
    for program in (os.path.join(t.tmp, "missing"), path, t.tmp):
        try:
            await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        except OSError as exc:
            t.log("error", type(exc).__name__)
    await settle()
    t.log("descriptors left", len(os.listdir("/proc/self/fd")) - before)


@case(
    "P.02a-exit-codes",
    "Exit codes come back as they were given.",
    needs="subprocess",
    rejects="a status not decoded",
)
async def exit_codes(t: CaseContext) -> None:
    for code in (0, 1, 42, 127, 255):
        process = await _sh(f"exit {code}")
        t.log("exit", [await process.wait(), process.returncode])


@case(
    "P.02b-death-by-signal",
    "A child that dies by a signal has the negative number of it for a code.",
    needs="subprocess",
    rejects="a status not decoded",
)
async def death_by_signal(t: CaseContext) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGABRT):
        process = await _sh(f"ulimit -c 0; kill -{int(number)} $$; exec sleep 60")
        t.log("died", await process.wait())


@case(
    "P.03a-signals-to-children",
    "`send_signal`, `terminate` and `kill` reach the child; on one long gone they are ProcessLookupErrors.",
    needs="subprocess",
    rejects="a signal sent to a recycled process number",
)
async def signals_to_children(t: CaseContext) -> None:
    for name, act in (
        ("send_signal", lambda p: p.send_signal(signal.SIGUSR1)),
        ("terminate", lambda p: p.terminate()),
        ("kill", lambda p: p.kill()),
    ):
        process = await _sh("echo ready; exec sleep 60", stdout=PIPE)
        assert process.stdout is not None
        t.log("child", (await process.stdout.readline()).decode())
        act(process)
        t.log(name, await process.wait())
        # From 3.14 on wait() returns when the child is gone, which may be before its pipe is; with both the transport ends.
        t.log("rest", (await process.stdout.read()).decode())
        try:
            act(process)
        except ProcessLookupError:
            t.log("again", "ProcessLookupError")
        else:
            t.log("again", "nothing")


@case(
    "P.03b-trapped-signal",
    "A child that handles a signal goes on, and its answer arrives.",
    needs="subprocess",
    rejects="a signal taken for the end of the child",
)
async def trapped_signal(t: CaseContext) -> None:
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'caught\\n'))\n"
        "os.write(1, b'ready\\n')\n"
        "os.write(1, os.read(0, 100))\n"
        "sys.exit(3)\n"
    )
    process = await asyncio.create_subprocess_exec(*PYTHON, program, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None and process.stdin is not None
    t.log("child", (await process.stdout.readline()).decode())
    process.send_signal(signal.SIGUSR1)
    t.log("child", (await process.stdout.readline()).decode())
    process.stdin.write(b"word\n")
    t.log("rest", (await process.stdout.read()).decode())
    t.log("exit", await process.wait())


@case(
    "P.04a-pipes",
    "stdin, stdout and stderr are three streams that can be read and written in turn.",
    needs="subprocess",
    rejects="a pipe whose end is taken for the child's",
)
async def pipes(t: CaseContext) -> None:
    process = await _sh(
        'while read line; do echo "out $line"; echo "err $line" >&2; done; echo end',
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    for i in range(5):
        process.stdin.write(b"%d\n" % i)
        await process.stdin.drain()
        t.log("out", (await process.stdout.readline()).decode())
        t.log("err", (await process.stderr.readline()).decode())
    process.stdin.close()
    await process.stdin.wait_closed()
    t.log(
        "rest", [(await process.stdout.read()).decode(), (await process.stderr.read()).decode(), await process.wait()]
    )


@case(
    "P.04b-redirections",
    "DEVNULL, STDOUT, a file and a bare descriptor serve as a child's streams.",
    needs="subprocess",
    rejects="pipes made where none were asked for",
)
async def redirections(t: CaseContext) -> None:
    process = await _sh("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
    t.log("merged", (await process.communicate())[0].decode())
    process = await _sh("cat; echo lost", stdin=DEVNULL, stdout=DEVNULL)
    t.log("null", [await process.wait(), process.stdin, process.stdout])
    path = os.path.join(t.tmp, "out")
    with open(path, "wb") as file:
        process = await _sh("echo to a file", stdout=file)
        t.log("file", await process.wait())
    r, w = os.pipe()
    with open(path, "rb") as file:
        process = await _sh("cat", stdin=file, stdout=w)
        os.close(w)
        t.log("descriptor", await process.wait())
    t.log("contents", os.read(r, 100).decode())
    os.close(r)


@case(
    "P.04c-protocol",
    "A SubprocessProtocol is told of its pipes' data, their ends, the exit and the loss, in asyncio's order.",
    needs="subprocess",
    rejects="process_exited called twice, or after connection_lost",
)
async def protocol(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    lost = loop.create_future()

    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self) -> None:
            self.data = {1: b"", 2: b""}

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            t.log("connection_made")

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            self.data[fd] += data

        def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
            t.log(
                "pipe_connection_lost",
                [exc and type(exc).__name__, self.data.get(fd, b"").decode()],
                actor=f"pipe {fd}",
            )

        def process_exited(self) -> None:
            t.log("process_exited")

        def connection_lost(self, exc: Exception | None) -> None:
            t.log("connection_lost", exc and type(exc).__name__)
            lost.set_result(None)

    transport, made = await loop.subprocess_exec(Protocol, "/bin/sh", "-c", "read x; echo $x; echo e >&2; exit 7")
    pid = transport.get_pid()
    t.check(pid > 0 and transport.get_returncode() is None, "a child without number")
    stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
    stdin.write(b"hello\n")
    await lost
    t.log("code", transport.get_returncode())
    transport.close()


async def _through_cat(t: CaseContext, size: int) -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    data = pattern(size)
    out, _ = await process.communicate(data)
    t.check(out == data, "the data differ", length=len(out))
    t.log("through", [len(out), digest(out), process.returncode])


@case(
    "P.05a-megabytes-through-a-pipe",
    "2 MiB through a child and back arrive unchanged.",
    needs="subprocess",
    rejects="a pipe whose writer is not watched while its reader is",
)
async def megabytes(t: CaseContext) -> None:
    await _through_cat(t, 2 << 20)


@case(
    "P.05b-64-mebibytes-through-a-pipe",
    "64 MiB through a child and back arrive unchanged.",
    needs="subprocess",
    tier="full",
    timeout=60,
    rejects="a pipe whose writer is not watched while its reader is",
)
async def many_megabytes(t: CaseContext) -> None:
    await _through_cat(t, 64 << 20)


@case(
    "P.06a-communicate-with-timeout-and-kill",
    "A `communicate` that times out leaves the child running; killed, it gives what it had written.",
    needs="subprocess",
    rejects="a timeout that loses the child",
)
async def communicate_timeout(t: CaseContext) -> None:
    # Pipes that the loop knows nothing of: the child is asked whether it runs, which its return code tells only later.
    question, ask = os.pipe()
    answer, reply = os.pipe()
    try:
        script = "echo partial; read x; echo $x >&2; exec sleep 60"
        process = await _sh(script, stdin=question, stdout=PIPE, stderr=reply)
        os.close(reply)
        reply = -1
        try:
            await asyncio.wait_for(process.communicate(), 0.1)
        except TimeoutError:
            t.log("timed out", process.returncode)
        os.write(ask, b"running\n")
        t.log("child", os.read(answer, 100).decode())  # empty when it has ended
    finally:
        for fd in (question, ask, answer, reply):
            if fd >= 0:
                os.close(fd)
    process.kill()
    await process.wait()
    t.log("killed", process.returncode)
    await settle()
    process = await _sh("exec cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"half\n")
    t.log("line", (await process.stdout.readline()).decode())
    process.kill()
    out, _ = await process.communicate()
    t.log("after kill", [out.decode(), process.returncode])


@case(
    "P.06b-cancelled-wait",
    "A cancelled `wait()` does not spoil the next one.",
    needs="subprocess",
    rejects="a waiter whose cancellation cancels the watch",
)
async def cancelled_wait(t: CaseContext) -> None:
    process = await _sh("read x; exit 5", stdin=PIPE)
    assert process.stdin is not None
    waiting = asyncio.create_task(process.wait())
    await iterations(3)
    waiting.cancel()
    await asyncio.wait([waiting])
    t.log("cancelled", outcome(waiting))
    process.stdin.write(b"\n")
    t.log("exit", await process.wait())


async def _children(t: CaseContext, n: int) -> None:
    async def child(i: int) -> tuple[str, int | None]:
        process = await _sh(f"read x; echo $x {i}; exit {i % 256}", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(b"child\n")
        return out.decode().strip(), process.returncode

    results = await asyncio.gather(*(child(i) for i in range(n)))
    t.check(results == [(f"child {i}", i % 256) for i in range(n)], "children were mixed up", results=results)
    t.log("children", len(results))


@case(
    "P.07a-many-children",
    "Twenty children at once each give their own output and code.",
    needs="subprocess",
    rejects="one SIGCHLD taken for one child",
)
async def many_children(t: CaseContext) -> None:
    await _children(t, 20)


@case(
    "P.07b-two-hundred-children",
    "Two hundred children at once each give their own output and code.",
    needs="subprocess",
    tier="full",
    timeout=60,
    rejects="one SIGCHLD taken for one child",
)
async def two_hundred_children(t: CaseContext) -> None:
    await _children(t, 200)


@case(
    "P.08a-child-closes-its-input",
    "Writing to a child that has closed its input, or is gone, is no error of `communicate`.",
    needs="subprocess",
    rejects="a BrokenPipeError that escapes, or a hang",
)
async def closes_its_input(t: CaseContext) -> None:
    big = bytes(1 << 20)
    heard = listen(asyncio.get_running_loop())  # the broken pipe's own futures may tell of it when they go
    process = await _sh("exec 0<&-; echo closed; exit 4", stdin=PIPE, stdout=PIPE)
    out, _ = await process.communicate(big)
    t.log("closed", [out.decode(), process.returncode])
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
    await process.wait()
    await process.communicate(big)
    t.log("gone", process.returncode)
    del process
    await settle()
    asyncio.get_running_loop().set_exception_handler(None)
    t.check(all(isinstance(c.get("exception"), OSError) for c in heard), "another error was reported", heard=heard)


@case(
    "P.08b-child-closes-its-output",
    "A child that closes its output long before its end gives end of file at once and its code later.",
    needs="subprocess",
    rejects="end of file held back until the exit, or an exit taken from it",
)
async def closes_its_output(t: CaseContext) -> None:
    process = await _sh("echo last words; exec 1>&-; read x; exit 9", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    t.log("output", (await process.stdout.read()).decode())
    t.log("running", process.returncode is None)
    process.stdin.write(b"\n")
    t.log("exit", await process.wait())


@case(
    "P.08c-grandchild-keeps-the-pipe",
    "A child whose own child keeps the pipe open exits for `wait()`; end of file comes with the last holder.",
    needs="subprocess",
    rejects="an exit that waits for the pipes",
)
async def grandchild(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    out_r, out_w = os.pipe()
    hold_r, hold_w = os.pipe()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(out_r, "rb", 0))
    process = await _sh("exec 3<&0; (cat <&3; echo grandchild) & echo child; exit 2", stdin=hold_r, stdout=out_w)
    os.close(hold_r)
    os.close(out_w)
    t.log("exit", await process.wait())
    t.log("line", (await reader.readline()).decode())
    t.log("ended", reader.at_eof())
    os.close(hold_w)
    t.log("rest", (await reader.read()).decode())


async def _storm(t: CaseContext, n: int) -> None:
    r, w = os.pipe()
    released = [await _sh(f"read x; exit {i}", stdin=r) for i in range(n)]
    foreign = [subprocess.Popen(["/bin/sh", "-c", f"read x; exit {i + 100}"], stdin=r) for i in range(5)]
    os.close(r)
    waits = asyncio.gather(*(process.wait() for process in released))
    await iterations(3)
    os.close(w)
    t.log("codes", await waits)
    for process in foreign:
        while process.poll() is None:
            await asyncio.sleep(0.001)
    t.log("foreign codes", [process.returncode for process in foreign])


@case(
    "P.09a-storm-of-sigchld",
    "Thirty children that die at one moment are all reaped, and children that asyncio did not start are left alone.",
    needs="subprocess",
    rejects="waitpid(-1), or signals counted",
)
async def storm(t: CaseContext) -> None:
    await _storm(t, 30)


@case(
    "P.09b-larger-storm-of-sigchld",
    "The same with 90 children, three times over.",
    needs="subprocess",
    tier="full",
    timeout=60,
    rejects="waitpid(-1), or signals counted",
)
async def larger_storm(t: CaseContext) -> None:
    for _ in range(3):
        await _storm(t, 90)


@case(
    "P.10-wait-after-exit",
    "`wait()` after the exit returns at once, again and again, and to several waiters.",
    needs="subprocess",
    rejects="a waiter that is only told of exits to come",
)
async def wait_after_exit(t: CaseContext) -> None:
    process = await _sh("read x; exit 6", stdin=PIPE)
    assert process.stdin is not None
    waiters = [asyncio.create_task(process.wait()) for _ in range(5)]
    await iterations(2)
    process.stdin.write(b"\n")
    t.log("waiters", await asyncio.gather(*waiters))
    t.log("again", [await process.wait(), await process.wait(), process.returncode])
    t.log("communicate", list(await process.communicate()))


async def _watched(t: CaseContext, together: bool) -> list[int]:
    codes = []
    for code in (0, 3):
        process = await _sh(f"read x; exit {code}", stdin=PIPE)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        codes.append(await process.wait())
    if together:
        processes = [await _sh(f"read x; exit {i}", stdin=PIPE) for i in range(8)]
        await asyncio.gather(*(process.communicate(b"\n") for process in processes))
        codes += [cast(int, process.returncode) for process in processes]
    out, _ = await (await _sh("read x; echo output", stdin=PIPE, stdout=PIPE)).communicate(b"\n")
    t.log("output", out.decode())
    return codes


def _with_watcher(t: CaseContext, name: str, *, together: bool = True) -> None:
    watcher_type = getattr(asyncio, name, None)
    if watcher_type is None:
        raise Unsupported(f"asyncio.{name}")
    if name == "PidfdChildWatcher":
        try:
            os.close(os.pidfd_open(os.getpid()))
        except (AttributeError, OSError):
            raise Unsupported("pidfd_open") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = asyncio.get_event_loop_policy()
        watcher = watcher_type()
        policy.set_child_watcher(watcher)
        try:
            t.log("codes", t.run(_watched, t, together))
            t.log("codes of a second run", t.run(_watched, t, together))
        finally:
            policy.set_child_watcher(None)
            watcher.close()


@case(
    "P.11a-threaded-child-watcher",
    "Children are reaped with a ThreadedChildWatcher, over two runs.",
    needs="subprocess",
    rejects="a watcher attached to the wrong loop",
)
def threaded_watcher(t: CaseContext) -> None:
    _with_watcher(t, "ThreadedChildWatcher")


@case(
    "P.11b-pidfd-child-watcher",
    "Children are reaped with a PidfdChildWatcher, over two runs.",
    needs="subprocess",
    rejects="a process descriptor that is not watched",
)
def pidfd_watcher(t: CaseContext) -> None:
    _with_watcher(t, "PidfdChildWatcher")


@case(
    "P.11c-safe-child-watcher",
    "Children are reaped with a SafeChildWatcher, which lives on SIGCHLD and the wakeup descriptor, over two runs.",
    needs="subprocess signals",
    rejects="a wakeup descriptor lost to the host",
)
def safe_watcher(t: CaseContext) -> None:
    _with_watcher(t, "SafeChildWatcher")


@case(
    "P.11d-multi-loop-child-watcher",
    "Children are reaped with a MultiLoopChildWatcher, which lives on a plain SIGCHLD handler, over two runs.",
    needs="subprocess signals",
    rejects="Python's signal handlers not run while the host sleeps in C",
)
def multi_loop_watcher(t: CaseContext) -> None:
    # One child at a time: its signal handler interrupts itself and then loses codes of children that die together.
    _with_watcher(t, "MultiLoopChildWatcher", together=False)


@case(
    "P.12a-cwd-and-env",
    "`cwd` and `env` are the child's, and not the parent's.",
    needs="subprocess",
    rejects="options dropped on the way",
)
async def cwd_and_env(t: CaseContext) -> None:
    os.mkdir(os.path.join(t.tmp, "below"))
    here = os.getcwd()
    process = await _sh(
        'basename "$PWD"; echo "$ONLY"; env | grep -c ONLY',
        cwd=os.path.join(t.tmp, "below"),
        env={"ONLY": "this", "PATH": os.environ["PATH"]},
        stdout=PIPE,
    )
    t.log("output", (await process.communicate())[0].decode())
    t.log("parent", [os.getcwd() == here, "ONLY" in os.environ])


@case(
    "P.12b-pass-fds",
    "`pass_fds` reach the child under their numbers; other descriptors, the loop's own among them, do not.",
    needs="subprocess",
    rejects="an inheritable descriptor of the loop or the host",
)
async def pass_fds(t: CaseContext) -> None:
    r, w = os.pipe()
    process = await _sh(f"echo through > /proc/self/fd/{w}", pass_fds=(w,))
    t.log("exit", await process.wait())
    t.log("read", os.read(r, 100).decode())
    program = "import os\nprint(*(fd for fd in range(3, 256) if os.path.exists(f'/proc/self/fd/{fd}')))"
    high = fcntl.fcntl(w, fcntl.F_DUPFD, 200)
    process = await asyncio.create_subprocess_exec(*PYTHON, program, pass_fds=(high,), stdout=PIPE)
    seen = (await process.communicate())[0].decode().split()
    t.log("only that one", seen == [str(high)])
    for fd in (r, w, high):
        os.close(fd)


@case(
    "P.12c-new-session",
    "`start_new_session` and `preexec_fn` are passed on.",
    needs="subprocess",
    rejects="options dropped on the way",
)
async def new_session(t: CaseContext) -> None:
    program = "import os\nprint(os.getsid(0) == os.getpid(), os.environ.get('X'))"
    process = await asyncio.create_subprocess_exec(*PYTHON, program, start_new_session=True, stdout=PIPE)
    t.log("session", (await process.communicate())[0].decode())
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", "umask", preexec_fn=lambda: os.umask(0o027) and None, stdout=PIPE
    )
    t.log("umask", (await process.communicate())[0].decode())


@case(
    "P.13-pseudo-terminal",
    "A child on a pseudo-terminal talks through its master, which hangs up at the end.",
    needs="subprocess",
    rejects="EIO taken for a crash, or a hang-up never seen",
)
async def pseudo_terminal(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    try:
        master, slave = os.openpty()
    except OSError as exc:
        raise Unsupported(f"pseudo-terminals ({errno.errorcode[exc.errno or 0]})") from None
    process = await _sh(
        "stty -echo; test -t 0 && echo a terminal; read x; echo got $x; exit 5", stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    lost = loop.create_future()
    received = bytearray()
    greeted = asyncio.Event()

    class Master(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.extend(data)
            if b"terminal\r\n" in received:
                greeted.set()

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(None)

    transport, _ = await loop.connect_read_pipe(Master, os.fdopen(os.dup(master), "rb", 0))
    await greeted.wait()
    os.write(master, b"word\n")
    await lost
    t.log("received", received.decode().split("\r\n"))
    t.log("exit", await process.wait())
    os.close(master)
