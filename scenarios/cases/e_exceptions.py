"""Group E: exceptions."""

from __future__ import annotations

import asyncio
import logging
import selectors
import socket
import traceback
from collections.abc import Callable
from typing import Any, cast

from ..api import CaseContext, case
from ..support import asyncio_log, from_thread, iterations, listen, settle, socket_pair


def _fail(name: str) -> None:
    raise LookupError(name)


@case(
    "E.01a-out-of-a-callback",
    "An exception out of any kind of callback reaches the exception handler, once, and the loop goes on.",
    needs="threads",
    rejects="an error printed by the toolkit instead, or told twice; mutant error-of-callback-lost",
)
async def out_of_a_callback(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    heard = listen(loop)
    loop.call_soon(_fail, "call_soon")
    await iterations(2)
    loop.call_later(0, _fail, "call_later")
    await iterations(3)
    loop.call_soon_threadsafe(_fail, "call_soon_threadsafe")
    await iterations(3)
    future = loop.create_future()
    future.add_done_callback(lambda _: _fail("done callback"))
    future.add_done_callback(lambda _: t.log("the next done callback runs"))
    future.set_result(None)
    await iterations(2)
    with socket_pair() as (a, b):
        for add, remove, name in (
            (loop.add_reader, loop.remove_reader, "reader"),
            (loop.add_writer, loop.remove_writer, "writer"),
        ):
            called = asyncio.Event()
            add(a, lambda remove=remove, name=name, called=called: (remove(a), called.set(), _fail(name)))
            b.send(b"x")
            await called.wait()
            await iterations(1)
    thread = from_thread(lambda: loop.call_soon_threadsafe(_fail, "from a thread"))
    while len(heard) < 7:
        await asyncio.sleep(0.001)
    thread.join()
    await iterations(3)
    loop.set_exception_handler(None)
    t.log("heard", [str(context["exception"]) for context in heard])
    t.log("keys", sorted({key for context in heard for key in context}))


@case(
    "E.01b-one-error-of-many",
    "Of many callbacks in one iteration the failing ones are told and all others run, in order.",
    rejects="a batch abandoned at its first error",
)
async def one_error_of_many(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: t.log("heard", str(context["exception"])))
    for i in range(9):
        if i % 3 == 1:
            loop.call_soon(_fail, f"number {i}")
        else:
            loop.call_soon(t.log, "ran", i)
    await iterations(2)
    loop.set_exception_handler(None)


@case(
    "E.01c-default-handler",
    "Without a handler the error is logged by the logger `asyncio`, with its traceback, once.",
    rejects="an error that goes to stderr past logging",
)
async def default_handler(t: CaseContext) -> None:
    records = await _logged()
    named = [[name for name in ("_fail", "called by hand") if name in record.getMessage()] for record in records]
    t.log("logged", [[record.levelname, names] for record, names in zip(records, named)])
    t.log("with exception", [bool(record.exc_info) for record in records])


@case(
    "E.01d-words-of-the-default-handler",
    "What is logged is worded as asyncio words it: programs look for it.",
    level="SHOULD",
    rejects="a handler with words of its own",
)
async def words_of_the_default_handler(t: CaseContext) -> None:
    for record in await _logged():
        # Without what differs from run to run: where the callback is, the address of an object, the traceback.
        t.log("logged", record.getMessage().partition("(")[0].split(" at 0x")[0].partition("\n")[0])


async def _logged() -> list[logging.LogRecord]:
    """What is logged of an error in a callback, and of a call by hand."""
    loop = asyncio.get_running_loop()
    with asyncio_log() as records:
        loop.call_soon(_fail, "unhandled")
        await iterations(2)
        loop.call_exception_handler({"message": "called by hand"})
    return list(records)


@case(
    "E.02a-out-of-the-handler",
    "An exception out of the exception handler itself is logged, once, and the loop goes on.",
    rejects="an endless report of reports",
)
async def out_of_the_handler(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    called = 0

    def handler(_: Any, context: dict[str, Any]) -> None:
        nonlocal called
        called += 1
        raise KeyError("in the handler")

    loop.set_exception_handler(handler)
    with asyncio_log() as records:
        loop.call_soon(_fail, "first")
        loop.call_soon(t.log, "goes on")
        await iterations(3)
    loop.set_exception_handler(None)
    t.log("called", called)
    t.log("logged", [record.getMessage().partition("\n")[0] for record in records])


@case(
    "E.02b-handler-leaves",
    "A SystemExit out of the exception handler ends the run and comes out of it.",
    rejects="a SystemExit swallowed by the bridge",
)
def handler_leaves(t: CaseContext) -> None:
    def handler(_: Any, context: dict[str, Any]) -> None:
        raise SystemExit(f"because of {context['exception']}")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(handler)
        loop.call_soon(_fail, "the reason")
        try:
            await asyncio.sleep(3600)
        finally:
            loop.set_exception_handler(None)
            t.log("main cleaned up")

    try:
        t.run(main)
    except SystemExit as exc:
        t.log("out", str(exc))


@case(
    "E.03a-leaving-from-a-callback",
    "SystemExit and KeyboardInterrupt out of a callback of any kind end the run after its teardown.",
    rejects="the reference bridge, which SystemExit wedges",
)
def leaving_from_a_callback(t: CaseContext) -> None:
    def leave(exc: BaseException) -> None:
        raise exc

    async def main(way: str, exc: BaseException) -> None:
        loop = asyncio.get_running_loop()
        with socket_pair() as (a, b):
            if way == "call_soon":
                loop.call_soon(leave, exc)
            elif way == "call_later":
                loop.call_later(0.002, leave, exc)
            elif way == "reader":
                loop.add_reader(a, leave, exc)
                b.send(b"x")
            else:
                future = loop.create_future()
                future.add_done_callback(lambda _: leave(exc))
                loop.call_soon(future.set_result, None)
            try:
                await asyncio.sleep(3600)
            finally:
                loop.remove_reader(a)
                t.log("main cleaned up", way)

    for way in ("call_soon", "call_later", "reader", "done callback"):
        for exc in (SystemExit(4), KeyboardInterrupt()):
            try:
                t.run(main, way, exc)
            except BaseException as caught:
                t.log("out", [way, type(caught).__name__, caught is exc])


@case(
    "E.03b-loop-usable-after-leaving",
    "After a SystemExit or KeyboardInterrupt came out of it, a loop can be run again and has lost no callback.",
    rejects="a loop left half-way inside a run",
)
def usable_after_leaving(t: CaseContext) -> None:
    loop = t.new_loop()

    def leave(exc: BaseException) -> None:
        raise exc

    try:
        for exc in (SystemExit(4), KeyboardInterrupt()):
            loop.call_soon(t.log, "before")
            loop.call_soon(leave, exc)
            loop.call_soon(t.log, "behind it in the same iteration")
            try:
                loop.run_forever()
            except BaseException as caught:
                t.log("out", type(caught).__name__)
            t.log("running", loop.is_running())
            loop.run_until_complete(asyncio.sleep(0.001))
            t.log("ran again")
    finally:
        loop.close()


@case(
    "E.03c-stop-and-error",
    "`stop()` and a failing callback in one iteration: the error is told, the loop stops.",
    rejects="a stop forgotten over an error",
)
def stop_and_error(t: CaseContext) -> None:
    loop = t.new_loop()
    loop.set_exception_handler(lambda _, context: t.log("heard", str(context["exception"])))
    try:
        for _ in range(2):
            loop.call_soon(loop.stop)
            loop.call_soon(_fail, "after stop")
            loop.call_soon(loop.call_soon, t.log, "next iteration: kept for the next run")
            loop.run_forever()
            t.log("stopped")
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


@case(
    "E.04-exception-groups",
    "Exception groups pass through callbacks, tasks and the run as they are.",
    report="PYSIDE-2799",
    rejects="QtAsyncio, which could not carry them",
)
def exception_groups(t: CaseContext) -> None:
    group = ExceptionGroup("many", [LookupError("a"), ExceptionGroup("inner", [KeyError("b"), ValueError("c")])])

    def fail() -> None:
        raise group

    async def raises(exc: BaseException) -> None:
        await asyncio.sleep(0)
        raise exc

    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard = listen(loop)
        loop.call_soon(fail)
        await iterations(2)
        loop.set_exception_handler(None)
        t.log("heard", [context["exception"] is group for context in heard])
        try:
            await asyncio.create_task(raises(group))
        except* KeyError as caught:
            t.log("key errors", [repr(exc) for exc in caught.exceptions])
        except* (LookupError, ValueError) as caught:
            t.log("others", [type(exc).__name__ for exc in caught.exceptions])

    t.run(main)
    for exc in (group, BaseExceptionGroup("with an interrupt", [KeyboardInterrupt(), LookupError("d")])):
        try:
            t.run(raises, exc)
        except BaseExceptionGroup as caught:
            t.log("out", [type(caught).__name__, caught is exc, caught.message])


class _BrokenSelector(selectors.SelectSelector):
    """A selector whose `select` fails once, when it is told to."""

    fail: BaseException | None = None

    def select(self, timeout: float | None = None) -> Any:
        if self.fail is not None:
            exc, self.fail = self.fail, None
            raise exc
        return super().select(timeout)


def _broken_poll_loop() -> asyncio.SelectorEventLoop:
    return asyncio.SelectorEventLoop(_BrokenSelector())


@case(
    "E.05a-error-in-poll",
    'An error in the selector\'s poll comes out of the run, after its teardown, and is not taken for "no events".',
    rejects="the reference bridge: a broken poll returns [] for ever; mutant poll-error-swallowed",
)
def error_in_poll(t: CaseContext) -> None:
    async def main(exc: BaseException) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.002)
        cast(_BrokenSelector, loop._selector).fail = exc  # type: ignore[attr-defined]
        try:
            await asyncio.sleep(3600)
        finally:
            t.log("main cleaned up")

    for exc in (OSError(5, "broken"), MemoryError("poll"), KeyboardInterrupt()):
        try:
            t.run(main, exc, loop_factory=_broken_poll_loop)
        except BaseException as caught:
            t.log("out", [type(caught).__name__, caught is exc])


class _BrokenProcessing(asyncio.SelectorEventLoop):
    """A loop whose processing of events fails once, when it is told to."""

    fail: BaseException | None = None

    def _process_events(self, event_list: Any) -> None:
        if self.fail is not None:
            exc, self.fail = self.fail, None
            raise exc
        super()._process_events(event_list)  # type: ignore[misc]


@case(
    "E.05b-error-in-processing",
    "An error while events are processed comes out of the run, after its teardown.",
    rejects="a turn that swallows what is not a callback's",
)
def error_in_processing(t: CaseContext) -> None:
    async def main() -> None:
        loop = cast(_BrokenProcessing, asyncio.get_running_loop())
        with socket_pair() as (a, b):
            loop.add_reader(a, a.recv, 10)
            loop.fail = LookupError("in processing")
            b.send(b"x")
            try:
                await asyncio.sleep(3600)
            finally:
                loop.remove_reader(a)
                t.log("main cleaned up")

    try:
        t.run(main, loop_factory=_BrokenProcessing)
    except LookupError as exc:
        t.log("out", str(exc))


class _BrokenTime(asyncio.SelectorEventLoop):
    """A loop whose clock fails once, when it is told to."""

    fail: BaseException | None = None

    def time(self) -> float:
        if self.fail is not None:
            exc, self.fail = self.fail, None
            raise exc
        return super().time()


@case(
    "E.05c-error-in-the-clock",
    "An error out of an overridden `time()` comes out of the run, after its teardown.",
    level="SHOULD",
    rejects="a host left spinning by an error in prepare",
)
def error_in_the_clock(t: CaseContext) -> None:
    async def main() -> None:
        loop = cast(_BrokenTime, asyncio.get_running_loop())
        forever = loop.create_future()
        loop.call_later(3600, t.log, "never")
        loop.fail = LookupError("in the clock")
        try:
            await forever
        finally:
            t.log("main cleaned up")

    try:
        t.run(main, loop_factory=_BrokenTime)
    except LookupError as exc:
        t.log("out", str(exc))


@case(
    "E.06-host-lives",
    "Errors out of callbacks, tasks and the exception handler leave the host's own callbacks running.",
    needs="host",
    oracle="own",
    rejects="an error that ends mainloop()",
)
async def host_lives(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    heard = listen(loop)

    async def raises() -> None:
        raise KeyError("in a task")

    for i in range(3):
        loop.call_soon(_fail, f"round {i}")
        task = asyncio.create_task(raises())
        await asyncio.wait([task])
        task.exception()
        called = loop.create_future()
        t.driver.call_from_host(lambda called=called: called.set_result(None))
        await called
        t.log("the host lives", i)
    loop.set_exception_handler(None)
    t.check(
        [str(context["exception"]) for context in heard] == ["round 0", "round 1", "round 2"],
        "reports",
        heard=len(heard),
    )


@case(
    "E.07a-errors-of-protocols",
    "An error in a protocol's method is told once and closes that transport; its neighbours go on.",
    rejects="a transport left open, or a loop that dies",
)
async def errors_of_protocols(t: CaseContext) -> None:
    await _errors_of_protocols(t, lambda context: str(context["exception"]))


@case(
    "E.07b-words-about-protocols",
    "What the handler is told of such an error is worded as asyncio words it.",
    level="SHOULD",
    rejects="transports with words of their own",
)
async def words_about_protocols(t: CaseContext) -> None:
    # Without what differs from run to run: the description of the callback that failed.
    await _errors_of_protocols(t, lambda context: str(context["message"]).partition("<")[0].partition("(")[0])


async def _errors_of_protocols(t: CaseContext, told: Callable[[dict[str, Any]], str]) -> None:
    loop = asyncio.get_running_loop()
    heard = listen(loop)

    class Sour(asyncio.Protocol):
        def __init__(self, where: str) -> None:
            self.where = where
            self.closed = loop.create_future()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            if self.where == "connection_made":
                _fail(self.where)

        def data_received(self, data: bytes) -> None:
            t.log("data", [self.where, data.decode()], actor=self.where)
            if self.where == "data_received":
                _fail(self.where)

        def eof_received(self) -> None:
            if self.where == "eof_received":
                _fail(self.where)

        def connection_lost(self, exc: Exception | None) -> None:
            t.log("lost", exc and str(exc), actor=self.where)
            self.closed.set_result(None)
            if self.where == "connection_lost":
                _fail(self.where)

    for where in ("data_received", "eof_received", "connection_lost", "none", "connection_made"):
        mine, peer = socket.socketpair()
        mine.setblocking(False)
        with peer:
            before = len(heard)
            transport, protocol = await loop.create_connection(lambda where=where: Sour(where), sock=mine)
            peer.send(b"data")
            peer.shutdown(socket.SHUT_WR)
            await protocol.closed
            await iterations(2)
            transport.close()
        t.log("heard", [told(context) for context in heard[before:]])
    await settle()
    loop.set_exception_handler(None)


@case(
    "E.08-what-the-handler-is-told",
    "The handler gets loop, message, exception and handle, and in debug mode where the callback was scheduled.",
    rejects="a context of the bridge's own making",
)
def what_the_handler_is_told(t: CaseContext) -> None:
    heard: list[dict[str, Any]] = []

    async def main(debug: bool) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda given, context: (t.log("same loop", given is loop), heard.append(context)))
        handle = loop.call_soon(_fail, "on purpose")
        await iterations(2)
        loop.set_exception_handler(None)
        context = heard.pop()
        t.log("keys", sorted(context))
        t.log("handle", context["handle"] is handle)
        t.log("message", "_fail" in context["message"])
        t.log("traceback ends in", traceback.extract_tb(context["exception"].__traceback__)[-1].name)
        if debug:
            t.log("scheduled by", [frame.name for frame in context["source_traceback"]][-1])

    for debug in (False, True):
        t.run(main, debug, debug=debug)
