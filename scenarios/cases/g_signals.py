"""Group G: signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from ..api import CaseContext, Outcome, case
from ..hostside import Killer, attempts, default_sigint, drive
from ..support import socket_pair

PROMPT = 0.05
"""Seconds (times the scale) within which a signal is served while the host blocks in C."""


def _interrupted(t: CaseContext, main: Callable[..., Any], *args: Any) -> float:
    """Run `main`; the moment at which run raised KeyboardInterrupt."""
    with default_sigint():
        try:
            t.run(main, *args)
        except KeyboardInterrupt:
            return time.monotonic()
    t.check(False, "run did not raise KeyboardInterrupt")
    return 0.0


@case(
    "G.01a-add-signal-handler",
    "Handlers of several signals are called in the loop, with their arguments, once for each signal.",
    rejects="mutant signal-not-forwarded",
)
async def add_handler(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    got: asyncio.Queue[str] = asyncio.Queue()
    numbers = {"usr1": signal.SIGUSR1, "usr2": signal.SIGUSR2, "term": signal.SIGTERM, "hup": signal.SIGHUP}

    def handler(name: str, extra: int) -> None:
        t.log("handler", [name, extra, asyncio.get_running_loop() is loop, asyncio.current_task() is None])
        got.put_nowait(name)

    for extra, (name, number) in enumerate(numbers.items()):
        loop.add_signal_handler(number, handler, name, extra)
    for _ in range(3):
        for name, number in numbers.items():
            os.kill(os.getpid(), number)
            t.log("got", [name, await asyncio.wait_for(got.get(), 5) == name])
    for number in numbers.values():
        t.log("removed", loop.remove_signal_handler(number))


@case(
    "G.01b-signal-while-idle",
    "A signal from another process is served within 50 ms while the loop has nothing else to do.",
    rejects="a loop that looks for signals at its next timer",
)
def handler_while_idle(t: CaseContext) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        with Killer(signal.SIGUSR1) as killer:

            async def main() -> float:
                loop = asyncio.get_running_loop()
                served = loop.create_future()
                loop.add_signal_handler(signal.SIGUSR1, lambda: served.set_result(time.monotonic()))
                killer.send(0.2)
                moment: float = await asyncio.wait_for(served, 10)
                loop.remove_signal_handler(signal.SIGUSR1)
                return moment

            late = t.run(main) - killer.sent()
        return late <= PROMPT * t.scale, "the signal was served late", {"late s": late}

    attempts(t, once)
    t.log("served")


@case(
    "G.01c-replace-handler",
    "A second handler for the same signal replaces the first; a bad signal or a coroutine function is refused.",
)
async def replace_handler(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    got: asyncio.Queue[str] = asyncio.Queue()
    for name in ("first", "second"):
        loop.add_signal_handler(signal.SIGUSR1, got.put_nowait, name)
    os.kill(os.getpid(), signal.SIGUSR1)
    t.log("got", await asyncio.wait_for(got.get(), 5))
    loop.remove_signal_handler(signal.SIGUSR1)

    async def coroutine() -> None: ...

    bad: list[tuple[int, Callable[..., Any]]] = [
        (signal.SIGKILL, print),
        (0, print),
        (signal.NSIG + 1, print),
        (signal.SIGUSR1, coroutine),
    ]
    for number, handler in bad:
        try:
            loop.add_signal_handler(number, handler)
        except (RuntimeError, ValueError, TypeError, OSError) as exc:
            t.log("refused", type(exc).__name__)
    t.log("more", got.empty())


@case(
    "G.02-remove-signal-handler",
    "remove_signal_handler says whether there was one, and puts the default disposition back.",
)
async def remove_handler(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGUSR1)
    t.log("none", loop.remove_signal_handler(signal.SIGUSR1))
    loop.add_signal_handler(signal.SIGUSR1, print)
    t.log("changed", signal.getsignal(signal.SIGUSR1) == before)
    t.log("removed", loop.remove_signal_handler(signal.SIGUSR1))
    t.log("again", loop.remove_signal_handler(signal.SIGUSR1))
    t.log("default", signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, before)
    # What the loop itself needs must work without handlers too.
    t.log("thread", await asyncio.to_thread(lambda: "answers"))


@case(
    "G.03a-ctrl-c-while-idle",
    "Ctrl-C while the host blocks in C cancels the main task within 50 ms; run raises KeyboardInterrupt.",
    rejects="a host that blocks in C until its next event",
)
def ctrl_c_idle(t: CaseContext) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        cancelled: list[float] = []
        with Killer() as killer:

            async def main() -> None:
                killer.send(0.2)
                try:
                    await asyncio.sleep(10 * t.scale)
                except asyncio.CancelledError:
                    cancelled.append(time.monotonic())
                    raise

            raised = _interrupted(t, main)
            sent = killer.sent()
        t.check(len(cancelled) == 1, "the main task was not cancelled")
        figures = {"cancelled after s": cancelled[0] - sent, "raised after s": raised - sent}
        return cancelled[0] - sent <= PROMPT * t.scale, "Ctrl-C was served late", figures

    attempts(t, once)
    t.log("served")


@case(
    "G.03b-ctrl-c-while-busy",
    "Ctrl-C while the loop is busy with callbacks: the same.",
)
def ctrl_c_busy(t: CaseContext) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        cancelled: list[float] = []
        with Killer() as killer:

            async def main() -> None:
                killer.send(0.1)
                try:
                    while True:
                        await asyncio.sleep(0)
                except asyncio.CancelledError:
                    cancelled.append(time.monotonic())
                    raise

            _interrupted(t, main)
            late = cancelled[0] - killer.sent()
        return late <= PROMPT * t.scale, "Ctrl-C was served late", {"late s": late}

    attempts(t, once)
    t.log("served")


@case(
    "G.03c-ctrl-c-and-clean-up",
    "After Ctrl-C the main task's clean-up, and that of the others, runs to its end, awaiting as it likes.",
)
def ctrl_c_cleanup(t: CaseContext) -> None:
    keep: list[Any] = []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            t.log("background cleaned")

    async def main(killer: Killer) -> None:
        keep.append(asyncio.create_task(background()))
        killer.send(0.1)
        try:
            await asyncio.sleep(10)
        finally:
            t.log("main cleaning")
            await asyncio.sleep(0.02)
            t.log("main cleaned", await asyncio.to_thread(lambda: "with a thread"))

    with Killer() as killer:
        _interrupted(t, main, killer)
    t.log("interrupted")


@case(
    "G.03d-ctrl-c-swallowed",
    "A main coroutine that swallows its cancellation and returns: run raises nothing, as asyncio.Runner does.",
)
def ctrl_c_swallowed(t: CaseContext) -> None:
    async def main(killer: Killer) -> str:
        killer.send(0.1)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            t.log("swallowed")
            return "result"
        return "not interrupted"

    with Killer() as killer, default_sigint():
        t.log("result", t.run(main, killer))


@case(
    "G.04a-second-ctrl-c",
    "A second Ctrl-C, while the main task is still cleaning up and the host blocks in C, raises "
    "KeyboardInterrupt at once.",
    rejects="a second interrupt that cancels once more",
)
def second_ctrl_c(t: CaseContext) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        events: list[str] = []
        with Killer() as killer:

            async def main() -> None:
                other = asyncio.create_task(asyncio.sleep(60 * t.scale))
                killer.send(0.1)
                try:
                    await asyncio.sleep(10 * t.scale)
                except asyncio.CancelledError:
                    events.append("first")
                    killer.sent()
                    killer.send(0.2)
                    try:
                        await asyncio.sleep(10 * t.scale)
                    except asyncio.CancelledError:
                        # The teardown, which comes once the exception has left the loop, cancels all tasks at once.
                        events.append("cancelled by the teardown" if other.cancelling() else "cancelled once more")
                        raise
                    events.append("slept on")

            raised = _interrupted(t, main)
            late = raised - killer.sent()
        t.check(events == ["first", "cancelled by the teardown"], "another order of events", events=events)
        return late <= PROMPT * t.scale, "the second Ctrl-C was served late", {"late s": late}

    attempts(t, once)
    t.log("served")


@case(
    "G.04b-second-ctrl-c-in-coroutine",
    "A second Ctrl-C while a coroutine computes raises KeyboardInterrupt inside it.",
)
def second_in_coroutine(t: CaseContext) -> None:
    async def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            t.log("first")
            try:
                os.kill(os.getpid(), signal.SIGINT)
                until = time.monotonic() + 5
                while time.monotonic() < until:
                    pass
                t.log("not interrupted")
            except KeyboardInterrupt:
                t.log("second")
                raise

    _interrupted(t, main)
    t.log("interrupted")


@case(
    "G.05-ctrl-c-in-host-callback",
    "Ctrl-C inside a host callback cancels the main task; the callback itself runs to its end.",
    needs="host",
    oracle="own",
    rejects="an interrupt that is lost in the toolkit's handling of exceptions",
)
def in_host_callback(t: CaseContext) -> None:
    events: list[str] = []

    def callback() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))
        events.append("callback ends")

    async def main() -> None:
        t.driver.call_from_host(callback)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    _interrupted(t, main)
    t.check(events == ["callback ends", "cancelled"], "another order of events", events=events)


@case(
    "G.06a-handler-restored",
    "SIGINT's handler is the program's own again after run, however it ended.",
    rejects="mutant sigint-handler-kept",
)
def handler_restored(t: CaseContext) -> None:
    async def result() -> str:
        t.log("inside", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        return "result"

    async def error() -> None:
        raise LookupError

    async def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(10)

    with default_sigint():
        for main in (result, error, interrupted):
            try:
                t.run(main)
            except (LookupError, KeyboardInterrupt) as exc:
                t.log("raised", type(exc).__name__)
            t.log("restored", signal.getsignal(signal.SIGINT) is signal.default_int_handler)


@case(
    "G.06b-own-handler-kept",
    "A handler for SIGINT that the program has set itself is left in place, during and after run.",
)
def own_handler(t: CaseContext) -> None:
    got: list[int] = []

    def own(number: int, frame: Any) -> None:
        got.append(number)

    async def main() -> None:
        t.log("kept", signal.getsignal(signal.SIGINT) is own)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.01)

    before = signal.signal(signal.SIGINT, own)
    try:
        t.run(main)
        t.log("after", [signal.getsignal(signal.SIGINT) is own, len(got)])
    finally:
        signal.signal(signal.SIGINT, before)


@case(
    "G.06c-handlers-removed-at-close",
    "Handlers that the program has not removed are gone, and the dispositions as before, when the loop is closed.",
)
def removed_at_close(t: CaseContext) -> None:
    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)

    before = signal.getsignal(signal.SIGUSR1)
    try:
        t.run(main)
        t.log("default", signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGUSR1, before)


@case(
    "G.07a-wakeup-fd-of-the-host",
    "With `host_uses_signal_set_wakeup_fd` the wakeup descriptor is never touched, and add_signal_handler is refused.",
    needs="host start_api",
    oracle="own",
    report="twisted#4658",
    rejects="a guest that takes the wakeup descriptor",
)
def wakeup_fd_of_host(t: CaseContext) -> None:
    ended: list[Outcome] = []
    seen: list[int] = []
    refused: list[str] = []

    def look() -> int:
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        return fd

    async def main() -> None:
        for _ in range(5):
            seen.append(look())
            await asyncio.sleep(0.005)
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError:
            refused.append("refused")
        seen.append(look())

    def done(outcome: Outcome) -> None:
        ended.append(outcome)
        t.driver.quit()

    with socket_pair() as (_, b):
        before = signal.set_wakeup_fd(b.fileno(), warn_on_full_buffer=False)
        try:
            if "loop" in t.driver.abilities:
                # The toolkit's own main function may take the descriptor for its length: that is the host's affair.
                t.driver.call_from_host(lambda: seen.append(look()))
            else:
                seen.append(look())
            t.start(main, done=done, host_uses_signal_set_wakeup_fd=True)
            t.check(look() == b.fileno(), "the start took the host's wakeup descriptor")
            drive(t, ended)
            t.check(look() == b.fileno(), "the host's wakeup descriptor is gone")
        finally:
            signal.set_wakeup_fd(before)
    ended[0].unwrap()
    untouched = len(seen) == 7 and len(set(seen)) == 1 and -1 not in seen
    t.check(untouched, "the host's wakeup descriptor was touched", seen=len(set(seen)))
    t.check(refused, "add_signal_handler was accepted")


@case(
    "G.07b-wakeup-fd-restored",
    "The wakeup descriptor that was set before run is set again after it.",
    rejects="mutant wakeup-fd-kept",
)
def wakeup_fd_restored(t: CaseContext) -> None:
    async def main() -> None:
        await asyncio.sleep(0.005)

    a, b = socket.socketpair()
    with a, b:
        b.setblocking(False)
        before = signal.set_wakeup_fd(b.fileno(), warn_on_full_buffer=False)
        try:
            t.run(main)
        finally:
            after = signal.set_wakeup_fd(before)
        t.log("restored", after == b.fileno())


@case(
    "G.08-storm",
    "Five hundred SIGINTs in a tenth of a second to a handler of the loop's: at least one is served "
    "after the last was sent, the loop lives.",
    rejects="a self-pipe that fills up and stays full",
)
def storm(t: CaseContext) -> None:
    with default_sigint(), Killer(count=500, gap=0.0001) as killer:

        async def main() -> None:
            loop = asyncio.get_running_loop()
            moments: list[float] = []
            loop.add_signal_handler(signal.SIGINT, lambda: moments.append(time.monotonic()))
            killer.send()
            last = await asyncio.to_thread(killer.sent)
            deadline = time.monotonic() + 2 * t.scale
            while not (moments and moments[-1] >= last) and time.monotonic() < deadline:
                await asyncio.sleep(0.005)
            t.measure("served", len(moments), "signals")
            t.check(moments and moments[-1] >= last, "the last signal was not served")
            t.check(len(moments) <= 500, "more were served than were sent", served=len(moments))
            t.log("removed", loop.remove_signal_handler(signal.SIGINT))
            t.log("thread", await asyncio.to_thread(lambda: "answers"))

        t.run(main)


@case(
    "G.09-handler-before-host-runs",
    "A handler added after the start and before the host's main function, which may take the wakeup "
    "descriptor, is served within 50 ms.",
    needs="host start_api",
    oracle="own",
    report="PyGObject takes the wakeup descriptor in MainLoop.run",
    rejects="a guest that sets the wakeup descriptor once",
)
def before_host_runs(t: CaseContext) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        ended: list[Outcome] = []
        with Killer(signal.SIGUSR1) as killer:
            moments: list[float] = []
            got = asyncio.Event()

            async def main() -> None:
                await asyncio.sleep(0.05)
                killer.send(0.2)
                await asyncio.wait_for(got.wait(), 10 * t.scale)

            def handler() -> None:
                moments.append(time.monotonic())
                got.set()

            def done(outcome: Outcome) -> None:
                ended.append(outcome)
                t.driver.quit()

            guest = t.start(main, done=done)
            guest.loop.add_signal_handler(signal.SIGUSR1, handler)
            drive(t, ended, 20)
            ended[0].unwrap()
            late = moments[0] - killer.sent()
        return late <= PROMPT * t.scale, "the signal was served late", {"late s": late}

    attempts(t, once)


@case(
    "G.10-last-handler-removed",
    "After the last handler has been removed, which takes the wakeup descriptor away, Ctrl-C is still "
    "served within 50 ms.",
    rejects="a guest that relies on a wakeup descriptor which asyncio resets",
)
def last_removed(t: CaseContext) -> None:
    def once() -> tuple[bool, str, dict[str, float]]:
        cancelled: list[float] = []
        with Killer() as killer:

            async def main() -> None:
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGUSR1, print)
                await asyncio.sleep(0.01)
                loop.remove_signal_handler(signal.SIGUSR1)
                killer.send(0.2)
                try:
                    await asyncio.sleep(10 * t.scale)
                except asyncio.CancelledError:
                    cancelled.append(time.monotonic())
                    raise

            _interrupted(t, main)
            late = cancelled[0] - killer.sent()
        return late <= PROMPT * t.scale, "Ctrl-C was served late", {"late s": late}

    attempts(t, once)
    t.log("served")
