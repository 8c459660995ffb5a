"""Faults of threads, executors, and of what belongs to a thread or a process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

from . import Loop, broken, patch


@broken("an exception out of a worker comes back as its result", "X.01a-results-and-exceptions")
class WorkersErrorsReturned(Loop):
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        def call() -> Any:
            try:
                return func(*args)
            except BaseException as error:
                return error

        return super().run_in_executor(executor, call)


@broken("the end of a worker does not wake a loop that is asleep", "X.01b-loop-goes-on-meanwhile", sees=("TIMEOUT",))
class WorkerDoesNotWake(Loop):
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = self.create_future()

        def call() -> None:
            self.call_soon(future.set_result, func(*args))

        threading.Thread(target=call, daemon=True).start()
        return future


@broken("a call that waits for a worker is not withdrawn with its future", "X.01c-cancelled-call")
class CancelledCallRuns(Loop):
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        return asyncio.shield(super().run_in_executor(executor, func, *args))


@broken("the result of a call whose future is cancelled is set all the same, when it comes", "X.01c-cancelled-call")
class LateResultSet(Loop):
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        if executor is None:
            return super().run_in_executor(executor, func, *args)
        future, call = self.create_future(), executor.submit(func, *args)
        future.add_done_callback(lambda future: future.cancelled() and call.cancel())
        call.add_done_callback(
            lambda call: call.cancelled() or self.call_soon_threadsafe(future.set_result, call.result())
        )
        return future


@broken("to_thread calls its function in the context of the worker", "X.02-to-thread-context")
def context_lost_at_the_threads_door() -> asyncio.AbstractEventLoop:
    async def to_thread(func: Any, /, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, func, *args)

    patch(asyncio, "to_thread", lambda old: to_thread)
    return Loop()


@broken(
    "the default executor is shut down without waiting for its workers",
    "X.03a-shutdown-waits",
    "X.03b-shutdown-default-executor",
    "Z.07a-teardown-order",
)
class ExecutorNotAwaited(Loop):
    async def shutdown_default_executor(self, *_: Any) -> None:
        executor = self._default_executor
        self._executor_shutdown_called = True
        if executor is not None:
            executor.shutdown(wait=False)


@broken("an executor of the loop's own is used, whatever is set or given", "X.04-default-executor-replaced")
class OwnExecutor(Loop):
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        with concurrent.futures.ThreadPoolExecutor(1, "own") as pool:
            return super().run_in_executor(pool, func, *args)


@broken("debug mode takes calls from any thread", "X.05-wrong-thread-in-debug-mode")
class AnyThread(Loop):
    def _check_thread(self) -> None:
        pass


@broken(
    "the running loop is the process's: its other threads and its forked children have it too",
    "X.06a-plain-loop-on-a-second-thread",
    "Z.10a-fork",
)
class RunningEverywhere(Loop):
    def run_forever(self) -> None:
        patch(asyncio.events, "_get_running_loop", lambda old: lambda: self if self._thread_id else old())
        super().run_forever()


@broken("a coroutine from another thread runs in that thread's loop", "X.07a-loops-that-talk")
def coroutine_runs_where_it_came_from() -> asyncio.AbstractEventLoop:
    def here(coro: Any, loop: Any) -> concurrent.futures.Future[Any]:
        loop = asyncio.get_running_loop()
        result: concurrent.futures.Future[Any] = concurrent.futures.Future()
        loop.create_task(coro).add_done_callback(lambda task: result.set_exception(task.exception() or LookupError()))
        return result

    patch(asyncio, "run_coroutine_threadsafe", lambda old: here)
    return Loop()


@broken("the loop keeps its last call of a worker until the next one comes", "X.08-nothing-kept-alive")
class LastCallKept(Loop):
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        self._last_call = func, args
        return super().run_in_executor(executor, func, *args)


@broken("the worker that ends first answers the caller who came last", "X.09-many-workers-at-once")
class ResultsMixedUp(Loop):
    def __init__(self) -> None:
        super().__init__()
        self._callers: list[asyncio.Future[Any]] = []

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        self._callers.append(self.create_future())
        worker = super().run_in_executor(executor, func, *args)
        worker.add_done_callback(lambda done: self._callers.pop().set_result(done.result()))
        return self._callers[-1]
