"""Faults of callbacks: their order, their handles, their contexts, and of calls from other threads."""

# What asyncio keeps private typeshed does not know, and what a method passes on it takes as it is.
# mypy: disable-error-code="assignment, attr-defined, has-type, misc, no-any-return, override"

from __future__ import annotations

import _thread
import asyncio
import functools
import threading
import types
import weakref
from typing import Any

from . import Loop, broken


@broken(
    "a callback is a timer of the next full millisecond, and those of one millisecond have no order",
    "C.01a-fifo-of-ten-thousand",
    "C.01b-round-robin-of-chains",
    "C.01c-fifo-across-ways-in",
)
class CallbacksAreTimers(Loop):
    def call_soon(self, *args: Any, **options: Any) -> asyncio.Handle:
        return self.call_at(round(self.time(), 3), *args, **options)


@broken(
    "the ready queue is a stack: what a callback schedules runs before what was ready already",
    "C.01a-fifo-of-ten-thousand",
    "C.01b-round-robin-of-chains",
    "C.02a-next-iteration",
)
class ReadyStack(Loop):
    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        self._ready.appendleft(asyncio.Handle(callback, args, self, context))
        return self._ready[0]


@broken(
    "call_soon_threadsafe runs the callback at once when it is called on the loop's thread",
    "C.01c-fifo-across-ways-in",
    "C.02c-never-synchronous",
    "C.05a-threadsafe-handle",
)
class ThreadsafeAtOnce(Loop):
    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        if threading.get_ident() != self._thread_id:
            return super().call_soon_threadsafe(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        handle._run()
        return handle


@broken(
    "the callbacks of an iteration are taken out of their handles beforehand: what one of them cancels runs",
    "C.03a-cancel-before-run",
    "C.07c-handle-subclass",
    sees=("FAIL", "WEAK"),
)
class BatchOfCallbacks(Loop):
    def _run_once(self) -> None:
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                self._ready.append(asyncio.Handle(handle._callback, handle._args, self, handle._context))
        super()._run_once()


@broken(
    "call_soon drops its context: steps of tasks and done callbacks run in that of whoever woke them",
    "C.04a-context-of-callbacks",
    "C.04c-context-of-tasks",
)
class ContextDropped(Loop):
    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return super().call_soon(callback, *args)


@broken("readers and writers run in the context of the loop", "C.04b-context-of-readers")
class ReadersInTheLoopsContext(Loop):
    def _process_events(self, events: Any) -> None:
        for key, mask in events:
            for bit, handle in zip((1, 2), key.data):
                if mask & bit and handle is not None and not handle.cancelled():
                    self.call_soon(handle._callback, *handle._args)


@broken("call_soon_threadsafe returns nothing", "C.05a-threadsafe-handle")
class ThreadsafeReturnsNothing(Loop):
    def call_soon_threadsafe(self, *args: Any, **options: Any) -> None:
        super().call_soon_threadsafe(*args, **options)


@broken(
    "calls of other threads are put in front of the queue, the last one first",
    "C.05c-eight-threads",
    "C.05d-eight-threads-of-ten-thousand",
)
class ThreadsafeInFront(Loop):
    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        if threading.get_ident() == self._thread_id:
            return super().call_soon_threadsafe(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.appendleft(handle)
        self._write_to_self()
        return handle


@broken(
    "a closed loop takes calls that it will never run",
    "C.05e-threadsafe-after-close",
    "C.06a-bound-methods-kept",
)
class ClosedTakesCalls(Loop):
    def _check_closed(self) -> None:
        pass


@broken(
    "nothing wakes the loop for a call of another thread: it looks for them every 100 milliseconds",
    "C.05f-threadsafe-from-a-callback-while-asleep",
)
class PollsForCalls(Loop):
    def _write_to_self(self) -> None:
        pass

    def _run_once(self) -> None:
        looks = self.call_later(0.1, lambda: None)
        super()._run_once()
        looks.cancel()


@broken(
    "call_soon is another function for the time of a run, and what is kept of it serves that run only",
    "C.06a-bound-methods-kept",
)
class CallSoonOfARun(Loop):
    def run_forever(self) -> None:
        running = True

        def call_soon(*args: Any, **options: Any) -> Any:
            return Loop.call_soon(self, *args, **options) if running else None

        self.call_soon = call_soon
        try:
            super().run_forever()
        finally:
            running = False
            del self.call_soon


class _OwnHandle(asyncio.Handle):
    _run = asyncio.Handle._run


@broken(
    "handles are of a class of the loop's own, which does not look at Handle._run",
    "C.07a-handle-run-patched",
    "C.07c-handle-subclass",
    sees=("FAIL", "WEAK"),
)
class OwnHandles(Loop):
    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        handle = _OwnHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle


@broken("set_debug takes effect with the next iteration", "C.07b-debug-switched-in-mid-run")
class DebugLater(Loop):
    def set_debug(self, enabled: bool) -> None:
        if self.is_running():
            self.call_soon(super().set_debug, enabled)
        else:
            super().set_debug(enabled)


@broken("the exception of a callback is told without its traceback", "C.08c-traceback-of-an-error", sees=("WEAK",))
class TracebackLost(Loop):
    def call_exception_handler(self, context: Any) -> None:
        context["exception"].__traceback__ = None
        super().call_exception_handler(context)


@broken(
    "a callback that is a bound method is held weakly, and is gone when its turn has come",
    "C.08b-logging-from-a-callback",
)
class WeakMethods(Loop):
    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        if isinstance(callback, types.MethodType):
            held = weakref.ref(callback)
            return super()._call_soon(lambda *args: (held() or (lambda *args: None))(*args), args, context)
        return super()._call_soon(callback, args, context)


@broken(
    "functions and methods are called by a thread of C, with no frame of Python below them",
    "C.08a-frames-in-a-callback",
    "C.08b-logging-from-a-callback",
)
class NoFrameBelow(Loop):
    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        if isinstance(callback, (types.FunctionType, types.MethodType)):
            callback, args = self._on_a_thread, (callback, args)
        return super()._call_soon(callback, args, context)

    def _on_a_thread(self, callback: Any, args: Any) -> None:
        done = threading.Event()
        call = functools.partial(callback, *args)
        # Let go of with the call, when the thread has ended, whether or not the callback raises.
        call.kept = set[None]()
        weakref.finalize(call.kept, done.set)
        _thread.start_new_thread(call, ())
        del call
        done.wait()
