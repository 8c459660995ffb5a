"""The Python halves of the engines in C: the one Python frame below every callback, what
``Handle._run`` does with an exception, and the probe that decides whether ``fast`` may run."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import heapq
import selectors
import sys
import types
from asyncio import base_events, constants, events, log, selector_events, tasks
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._fingerprints import KNOWN

if TYPE_CHECKING:
    from ._core import Guest

try:
    from asyncio.format_helpers import _format_callback_source
except ImportError:  # pragma: no cover - there in every version so far
    _format_callback_source = None  # type: ignore[assignment]


def turn(guest: Guest) -> None:
    """Run the iterations of one turn.

    It is Python so that ``sys._getframe(1)`` and the stacklevel of ``warnings`` find a frame
    below a callback also where the host calls from C.
    """
    guest._iterate()


def swap_in(loop: Any) -> Callable[[], None]:
    """Make `loop` the running loop; the result puts back what was.

    Another loop runs where the host is itself asyncio: its current task, the hooks for async generators and the origin
    tracking of coroutines belong to that loop.  Called for each turn there: hence no context managers.  Where `loop` runs
    already, its own current task is put aside: it is in an eager first step that a callback of the host's has begun.

    From 3.14 on the running loop and its current task live in the thread's state: the task is left and entered while its
    loop is the running one.
    """
    outer = events._get_running_loop()
    if outer is None:
        events._set_running_loop(loop)
        return _no_loop
    task = tasks.current_task(outer)
    if outer is loop and task is not None:
        tasks._leave_task(loop, task)
        return functools.partial(_step_on, loop, task)
    hooks = sys.get_asyncgen_hooks()
    depth = sys.get_coroutine_origin_tracking_depth()
    try:
        if task is not None:
            tasks._leave_task(outer, task)
        events._set_running_loop(loop)
        sys.set_asyncgen_hooks(loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook)
        wanted = constants.DEBUG_STACK_DEPTH if loop.get_debug() else 0
        if wanted != depth:
            sys.set_coroutine_origin_tracking_depth(wanted)
    except BaseException:  # a signal's, between any two of these
        _swap_out(outer, task, hooks, depth)
        raise
    return functools.partial(_swap_out, outer, task, hooks, depth)


def _no_loop() -> None:
    events._set_running_loop(None)


def _step_on(loop: Any, task: Any) -> None:
    """Go on with the first step of `task`; not when its guest has ended meanwhile, where the current task goes with the
    running loop (3.14)."""
    if sys.version_info < (3, 14) or events._get_running_loop() is loop:
        tasks._enter_task(loop, task)


def _swap_out(outer: Any, task: Any, hooks: Any, depth: int) -> None:
    events._set_running_loop(outer)
    if task is not None and tasks.current_task(outer) is None:
        tasks._enter_task(outer, task)
    sys.set_asyncgen_hooks(*hooks)
    if sys.get_coroutine_origin_tracking_depth() != depth:
        sys.set_coroutine_origin_tracking_depth(depth)


def failed(handle: asyncio.Handle, exc: BaseException) -> None:
    """Report the exception of a callback, in the words of ``Handle._run``."""
    callback, args = handle._callback, handle._args  # type: ignore[attr-defined]
    context: dict[str, Any] = {
        "message": f"Exception in callback {_describe(callback, args)}",
        "exception": exc,
        "handle": handle,
    }
    traceback = handle._source_traceback  # type: ignore[attr-defined]
    if traceback:
        context["source_traceback"] = traceback
    handle._loop.call_exception_handler(context)  # type: ignore[attr-defined]


def run_debug(loop: Any, handle: asyncio.Handle) -> None:
    """Run one handle as ``_run_once`` does in debug mode; for the rest of an iteration in which it was
    switched on."""
    try:
        loop._current_handle = handle
        start = loop.time()
        handle._run()
        took = loop.time() - start
        if took >= loop.slow_callback_duration:
            log.logger.warning(
                "Executing %s took %.3f seconds",
                base_events._format_handle(handle),  # type: ignore[attr-defined]
                took,
            )
    finally:
        loop._current_handle = None


def _describe(callback: Any, args: Any) -> str:
    if sys.version_info >= (3, 13):
        return str(_format_callback_source(callback, args, debug=False))
    return str(_format_callback_source(callback, args))


def fingerprint(code: types.CodeType) -> str:
    """A digest of what `code` does: its instructions, names and constants, not its file or lines."""
    digest = hashlib.sha256()

    def feed(c: types.CodeType) -> None:
        digest.update(c.co_code)
        for part in (c.co_names, c.co_varnames, c.co_freevars, c.co_cellvars):
            digest.update(repr(part).encode())
        digest.update(repr((c.co_argcount, c.co_kwonlyargcount, c.co_flags)).encode())
        digest.update(getattr(c, "co_exceptiontable", b""))
        for const in c.co_consts:
            if isinstance(const, types.CodeType):
                feed(const)
            else:
                digest.update(repr(const).encode())

    feed(code)
    return digest.hexdigest()[:16]


def stood_for(loop_type: type) -> dict[str, Any]:
    """The functions that an iteration of ``fast`` stands for, as found through `loop_type`."""
    return {
        "_run_once": getattr(loop_type, "_run_once", None),
        "_process_events": getattr(loop_type, "_process_events", None),
        "_add_callback": getattr(loop_type, "_add_callback", None),
        "time": getattr(loop_type, "time", None),
        "call_soon": getattr(loop_type, "call_soon", None),
        "_call_soon": getattr(loop_type, "_call_soon", None),
        "_check_closed": getattr(loop_type, "_check_closed", None),
        "get_debug": getattr(loop_type, "get_debug", None),
        "Handle.__init__": events.Handle.__init__,
        "Handle._run": events.Handle._run,
        "TimerHandle._run": events.TimerHandle._run,
        "EpollSelector.select": getattr(getattr(selectors, "EpollSelector", None), "select", None),
    }


_known_functions: dict[tuple[Any, ...], str | None] = {}


def probe(loop: asyncio.AbstractEventLoop) -> str | None:
    """None if ``fast`` may run `loop`; otherwise the reason why not, for people to read."""
    if not isinstance(loop, selector_events.BaseSelectorEventLoop):
        return f"{type(loop).__name__} is no selector loop"
    functions = stood_for(type(loop))
    key = tuple(functions.values())
    try:
        return _known_functions[key]
    except (KeyError, TypeError):
        reason = _examine(functions)
    try:
        if len(_known_functions) > 64:
            # Functions of test doubles come and go.
            _known_functions.clear()
        _known_functions[key] = reason
    except TypeError:
        pass  # an unhashable stand-in: examined again each time
    return reason


def _examine(functions: dict[str, Any]) -> str | None:
    version = "%d.%d" % sys.version_info[:2]
    known = KNOWN.get(version)
    if known is None:
        return f"no code of asyncio {version} is known to the engine"
    for name, function in functions.items():
        code = getattr(function, "__code__", None)
        if not isinstance(function, types.FunctionType) or not isinstance(code, types.CodeType):
            return f"{name} is not asyncio's own"
        if fingerprint(code) not in known.get(name, ()):
            return f"{name} has code that the engine does not know for {version}"
    constants = (
        getattr(base_events, "_MIN_SCHEDULED_TIMER_HANDLES", None),
        getattr(base_events, "_MIN_CANCELLED_TIMER_HANDLES_FRACTION", None),
        getattr(base_events, "MAXIMUM_SELECT_TIMEOUT", None),
    )
    if constants != (100, 0.5, 24 * 3600):
        return f"constants of base_events differ: {constants}"
    if getattr(base_events, "heapq", None) is not heapq:
        return "base_events.heapq is not heapq"
    return None
