"""Faults of tasks, futures, cancellation, and of what waits for several of them."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from . import Loop, Runs, broken, patch


class _Uncounted(asyncio.Task[Any]):
    def cancelling(self) -> int:
        return 0

    def uncancel(self) -> int:
        return 0


class _LateCancel(asyncio.Task[Any]):
    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        self.get_loop().call_soon(super().cancel, msg)
        return True


@broken("a task factory is taken and never asked: eager tasks begin an iteration later", "K.06-eager-tasks")
class FactoryIgnored(Loop):
    def set_task_factory(self, factory: Any) -> None:
        pass


class _OwnTasks(Loop):
    """Makes tasks of a class of its own, as some bridges do."""

    task: type[asyncio.Task[Any]]

    def __init__(self) -> None:
        super().__init__()
        self.set_task_factory(lambda loop, coro, **options: self.task(coro, loop=loop, **options))


@broken("tasks of the loop's own do not count the requests for their cancellation", "K.01a-cancel-and-uncancel")
class CancellationsUncounted(_OwnTasks):
    task = _Uncounted


@broken(
    "a cancellation takes effect an iteration later, and the task goes on until then",
    "K.01b-cancel-before-the-first-step",
    "K.01c-cancel-while-resuming",
    "U.04a-corpus",
)
class CancelsLate(_OwnTasks):
    task = _LateCancel


@broken("a task that is cancelled while it waits for a socket leaves the reader there", "K.01d-cancelled-in-every-kind-of-wait")
class ReaderLeft(Loop):
    async def sock_recv(self, sock: Any, n: int) -> bytes:
        readable = self.create_future()
        self.add_reader(sock, lambda: None if readable.done() else readable.set_result(None))
        await readable
        self.remove_reader(sock)
        return bytes(sock.recv(n))


@broken(
    "a shield passes the cancellation on",
    "K.03a-shield",
    "K.03b-shield-and-an-error-nobody-awaits",
)
def no_shield() -> asyncio.AbstractEventLoop:
    patch(asyncio, "shield", lambda old: asyncio.ensure_future)
    return Loop()


@broken("gather's results are in the order in which they came", "K.04a-gather")
def gathered_as_completed() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def gather(*each: Any, **options: Any) -> Any:
            order: list[Any] = []
            futures = [asyncio.ensure_future(one) for one in each]
            for future in futures:
                future.add_done_callback(order.append)

            async def ordered() -> list[Any]:
                results = await old(*futures, **options)
                return [results[futures.index(future)] for future in order]

            return asyncio.ensure_future(ordered())

        return gather

    patch(asyncio, "gather", change)
    return Loop()


@broken("a wait whose time is over raises TimeoutError", "K.04b-wait")
def wait_raises() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def wait(each: Any, *, timeout: float | None = None, **options: Any) -> Any:
            async with asyncio.timeout(timeout):
                return await old(each, **options)

        return wait

    patch(asyncio, "wait", change)
    return Loop()


def _wait(change: Any) -> asyncio.AbstractEventLoop:
    patch(asyncio, "wait", change)
    return Loop()


@broken("a wait cancels what is pending when it returns", "K.04b-wait")
def wait_cancels_the_rest() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        async def wait(each: Any, **options: Any) -> Any:
            done, pending = await old(each, **options)
            for future in pending:
                future.cancel()
            return done, pending

        return wait

    return _wait(change)


@broken("a wait returns at the first, whatever it is asked to wait for", "K.04b-wait")
def wait_returns_at_the_first() -> asyncio.AbstractEventLoop:
    return _wait(lambda old: lambda each, **options: old(each, **{**options, "return_when": asyncio.FIRST_COMPLETED}))


@broken("a wait for the first error returns at the first result", "K.04b-wait")
def wait_takes_results_for_errors() -> asyncio.AbstractEventLoop:
    def change(old: Any) -> Any:
        def wait(each: Any, *, return_when: str = asyncio.ALL_COMPLETED, **options: Any) -> Any:
            first = asyncio.FIRST_COMPLETED
            return old(each, return_when=first if return_when == asyncio.FIRST_EXCEPTION else return_when, **options)

        return wait

    return _wait(change)


@broken("as_completed yields in the order of its arguments", "K.04c-as-completed")
def completed_in_the_order_of_arguments() -> asyncio.AbstractEventLoop:
    def as_completed(each: Any, *, timeout: float | None = None) -> Any:
        return (asyncio.wait_for(one, timeout) for one in each)

    patch(asyncio, "as_completed", lambda old: as_completed)
    return Loop()


def _leave_group(change: Any) -> asyncio.AbstractEventLoop:
    def changed(old: Any) -> Any:
        async def leave(self: Any, *about: Any) -> Any:
            try:
                return await old(self, *about)
            except BaseException as error:
                raise change(error) from None

        return leave

    patch(asyncio.TaskGroup, "__aexit__", changed)
    return Loop()


@broken("of several errors in a TaskGroup the first one only comes out", "K.05a-task-group")
def one_error_of_a_group() -> asyncio.AbstractEventLoop:
    return _leave_group(lambda error: error.derive(error.exceptions[:1]) if hasattr(error, "derive") else error)


@broken("a single error in a TaskGroup comes out bare", "K.05a-task-group")
def single_error_comes_out_bare() -> asyncio.AbstractEventLoop:
    return _leave_group(lambda error: error.exceptions[0] if len(getattr(error, "exceptions", ())) == 1 else error)


@broken("the cancellation of a TaskGroup's parent comes out as a group of errors", "K.05b-task-group-cancelled")
def cancellation_in_a_group() -> asyncio.AbstractEventLoop:
    cancelled = asyncio.CancelledError
    return _leave_group(lambda error: BaseExceptionGroup("", [error]) if isinstance(error, cancelled) else error)


@broken("a timer runs as the task that set it", "K.09a-current-task")
class TimersAsTheirTask(Loop):
    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        task = asyncio.current_task()

        def call() -> None:
            if task is not None:
                asyncio._enter_task(self, task)
            try:
                callback(*args)
            finally:
                if task is not None:
                    asyncio._leave_task(self, task)

        return super().call_at(when, call, context=context)


@broken("all_tasks has the tasks that are done too", "K.09b-all-tasks")
class DoneTasksToo(Loop):
    made: ClassVar[set[Any]] = set()

    def __init__(self) -> None:
        super().__init__()
        patch(asyncio, "all_tasks", lambda old: lambda loop=None: self.made | old(loop))

    def create_task(self, coro: Any, **options: Any) -> Any:
        task = super().create_task(coro, **options)
        self.made.add(task)
        return task


@broken("all_tasks has the tasks of every loop", "K.09b-all-tasks")
def tasks_of_every_loop() -> asyncio.AbstractEventLoop:
    loops: list[Any] = []

    def init(old: Any) -> Any:
        def change(self: Any) -> None:
            loops.append(self)
            old(self)

        return change

    patch(asyncio.BaseEventLoop, "__init__", init)
    patch(asyncio, "all_tasks", lambda old: lambda loop=None: set().union(*map(old, loops)))
    return Loop()


@broken("there is room for four thousand tasks at a time", "K.11-deep-and-wide")
class FewTasks(Loop):
    def create_task(self, coro: Any, **options: Any) -> Any:
        if len(asyncio.all_tasks(self)) > 4000:
            coro.close()
            raise RuntimeError("too many tasks")
        return super().create_task(coro, **options)


@broken(
    "of timers with one deadline the last one is the first",
    "U.04a-corpus",
    "U.04b-corpus-in-virtual-time",
    sees=("FAIL", "WEAK"),
)
class LastTimerFirst(Runs):
    def __init__(self) -> None:
        patch(asyncio.TimerHandle, "__lt__", lambda old: lambda self, other: self.when() <= other.when())
