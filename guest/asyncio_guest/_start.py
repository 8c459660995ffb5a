"""Starting a guest."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import _core
from ._driver import Driver, unreported
from ._guest import Guest
from ._hosts import Host, resolve
from ._running import on_main_thread, running_loop

if TYPE_CHECKING:
    import outcome

T = TypeVar("T")

BUDGET = 0.004
"""Default budget of a turn, in seconds."""


def _refuse_signal_handler(*args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError(
        "add_signal_handler() needs signal.set_wakeup_fd(), which belongs to the host "
        "(host_uses_signal_set_wakeup_fd=True); use signal.signal() with a handler that calls "
        "loop.call_soon_threadsafe(), or the host's own signal support"
    )


def _new_loop(
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None, debug: bool | None
) -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop() if loop_factory is None else loop_factory()
    if not isinstance(loop, asyncio.BaseEventLoop):
        close = getattr(loop, "close", None)
        if close is not None:
            close()
        raise TypeError(f"a guest's loop must be an asyncio.BaseEventLoop, got {type(loop).__qualname__}")
    if debug is not None:
        loop.set_debug(debug)
    return loop


def start(
    coro: Coroutine[Any, Any, T],
    *,
    host: object,
    done_callback: Callable[[outcome.Outcome[T]], object] | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
    context: contextvars.Context | None = None,
    engine: str | None = None,
    strategy: str | None = None,
    budget: float = BUDGET,
    max_iterations: int = 0,
    host_uses_signal_set_wakeup_fd: bool = False,
) -> Guest:
    """Run `coro` as a guest of a main loop that the application runs itself.

    Call it on the host's thread, before or while the host's main loop runs.  Nothing of `coro` runs before
    `start` returns.  The running loop of the thread is the guest's from here to the end, so that
    ``asyncio.create_task`` works in the host's callbacks.

    host
        a name (``"tk"``, ``"gtk3"``, ``"poll"``) or an object of the toolkit (a ``tkinter.Tk``)
    done_callback
        called last and exactly once, on the host's thread, with an `outcome.Outcome`: the place to quit the
        host's main loop.  Without it, errors go to ``sys.excepthook``
    loop_factory, debug, context
        as of ``asyncio.Runner``
    engine, strategy
        force an engine (``stock``, ``fast``) or strategy (``watch``, ``waiter``); one that cannot run is an error
    budget
        seconds that a turn may take while work is left; an iteration is never cut short
    max_iterations
        iterations a turn may run; 0: no limit but the budget
    host_uses_signal_set_wakeup_fd
        leave ``signal.set_wakeup_fd`` alone: prompt Ctrl-C is then the host's business and
        ``loop.add_signal_handler`` raises

    Raises RuntimeError for a second guest on this thread, ValueError, TypeError or HostUnavailable for the host.
    When it raises, `coro` has been closed.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError(f"a coroutine was expected, got {coro!r}")
    try:
        driver = start_core(
            coro,
            functools.partial(resolve, host),
            done_callback,
            loop_factory,
            debug,
            context,
            engine=engine,
            strategy=strategy,
            budget_ns=_budget_ns(budget),
            max_iterations=max_iterations,
            own_wakeup_fd=not host_uses_signal_set_wakeup_fd,
        )
    except BaseException:
        coro.close()
        raise
    return Guest(driver)


def _budget_ns(budget: float) -> int:
    if not budget > 0:
        raise ValueError(f"the budget of a turn must be a positive number of seconds, got {budget!r}")
    return max(1, int(min(budget, 3600.0) * 1e9))


def start_core(
    coro: Coroutine[Any, Any, Any],
    open_host: Callable[[], Host],
    done_callback: Callable[[outcome.Outcome[Any]], object] | None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
    context: contextvars.Context | None = None,
    own_wakeup_fd: bool = True,
    **options: Any,
) -> Driver:
    """`start` behind its checks; `options` are those of the core.  On failure the caller closes `coro`."""
    if _core.current_guest() is not None:
        raise RuntimeError("a guest is already running on this thread")
    host = open_host()
    loop = _new_loop(loop_factory, debug)
    # As asyncio.Runner, but never over a loop that runs here: then the host is asyncio itself.
    own_event_loop = loop_factory is None and running_loop() is None
    try:
        driver = Driver(loop, host, done_callback, unset_event_loop=own_event_loop)
        core = _core.Guest(
            loop,
            on_stop=driver.on_stop,
            on_done=driver.on_done,
            on_host_died=driver.on_host_died,
            ops=host.ops,
            toolkit=host.toolkit,
            own_wakeup_fd=own_wakeup_fd and on_main_thread(),
            **options,
        )
        driver.opened(core)
        if own_event_loop:
            asyncio.set_event_loop(loop)
        if not own_wakeup_fd:
            setattr(loop, "add_signal_handler", _refuse_signal_handler)
        driver.begin(coro, contextvars.copy_context() if context is None else context)
    except BaseException:
        loop.close()
        raise
    return driver


def run(
    coro: Coroutine[Any, Any, T],
    *,
    host: object,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
    context: contextvars.Context | None = None,
    engine: str | None = None,
    strategy: str | None = None,
    budget: float = BUDGET,
    max_iterations: int = 0,
    host_uses_signal_set_wakeup_fd: bool = False,
) -> T:
    """Run `coro` as a guest of `host`, and drive the host's main loop until the guest is over.

    As ``asyncio.run``: returns the result or raises the exception of `coro`, KeyboardInterrupt and SystemExit
    included.  The arguments are those of `start`.  If the host's main loop ends first, the guest is cancelled and
    finished without it, with a HostDiedWarning.
    """
    guest = start(
        coro,
        host=host,
        done_callback=unreported,
        loop_factory=loop_factory,
        debug=debug,
        context=context,
        engine=engine,
        strategy=strategy,
        budget=budget,
        max_iterations=max_iterations,
        host_uses_signal_set_wakeup_fd=host_uses_signal_set_wakeup_fd,
    )
    ended = None
    try:
        guest._driver.drive()
        ended = guest._driver.ended
        assert ended is not None
        result: T = ended.unwrap()
        return result
    finally:
        del guest, ended, coro  # an error's traceback holds this frame


def start_guest_run(
    async_fn: Callable[..., Awaitable[T]],
    *args: Any,
    run_sync_soon_threadsafe: Callable[[Callable[[], object]], object],
    done_callback: Callable[[outcome.Outcome[T]], object],
    run_sync_soon_not_threadsafe: Callable[[Callable[[], object]], object] | None = None,
    host_uses_signal_set_wakeup_fd: bool = False,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
    context: contextvars.Context | None = None,
    engine: str | None = None,
) -> Guest:
    """Run ``async_fn(*args)`` as a guest of any main loop that can be given a function to call.

    The shape of Trio's function of the same name.

    run_sync_soon_threadsafe
        a function that takes a callable and has the host call it soon on its own thread.  It is called from
        any thread, and must not call the callable itself: a synchronous call is refused with a RuntimeError
    run_sync_soon_not_threadsafe
        the same, cheaper, for calls made on the host's thread
    done_callback
        called last and exactly once, on the host's thread, with an `outcome.Outcome`

    The other arguments and the errors are those of `start`.
    """
    for function in (run_sync_soon_threadsafe, run_sync_soon_not_threadsafe):
        if function is not None and not callable(function):
            raise TypeError(f"a callable was expected, got {function!r}")
    if _core.current_guest() is not None:
        raise RuntimeError("a guest is already running on this thread")
    host = Host(_core.callables_ops, (run_sync_soon_threadsafe, run_sync_soon_not_threadsafe))
    return start(
        _call(async_fn, args),
        host=host,
        done_callback=done_callback,
        loop_factory=loop_factory,
        debug=debug,
        context=context,
        engine=engine,
        host_uses_signal_set_wakeup_fd=host_uses_signal_set_wakeup_fd,
    )


async def _call(async_fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    return await async_fn(*args)


def asyncio_guest_run(
    async_func: Callable[..., Awaitable[T]],
    *args: Any,
    run_sync_soon_threadsafe: Callable[[Callable[[], object]], object],
    run_sync_soon_not_threadsafe: Callable[[Callable[[], object]], object] | None = None,
    done_callback: Callable[[outcome.Outcome[T]], object],
    host_uses_signal_set_wakeup_fd: bool = False,
) -> Guest:
    """Run ``async_func(*args)`` in the host's main loop; the drop-in for programs of the first asyncio-guest.

    Such a program runs with this import in place of its own: its host object gives the two functions and the
    callback, its tasks get their display object in `args`.  The arguments, threads and errors are those of
    `start_guest_run`; that, and `start`, can do more.
    """
    return start_guest_run(
        async_func,
        *args,
        run_sync_soon_threadsafe=run_sync_soon_threadsafe,
        run_sync_soon_not_threadsafe=run_sync_soon_not_threadsafe,
        done_callback=done_callback,
        host_uses_signal_set_wakeup_fd=host_uses_signal_set_wakeup_fd,
    )


_scheduled: set[asyncio.Future[Any]] = set()


def schedule_on_asyncio(coro: Coroutine[Any, Any, object]) -> Callable[[], None]:
    """A function without arguments that starts `coro` as a task of this thread's guest, for a button's callback; the
    other name that programs of the first asyncio-guest import.

    Call that function once, on the host's thread, while the guest runs; RuntimeError without a guest.  An exception that
    the task raises goes to the loop's exception handler.  `Guest.start_soon` does the same as often as one likes.
    """

    def schedule() -> None:
        task = asyncio.get_running_loop().create_task(coro)
        _scheduled.add(task)
        task.add_done_callback(_scheduled.discard)

    return schedule
