"""The phases of a guest: what asyncio.Runner does around a main task, run as turns of a host.

The script of a guest is a generator.  Each ``yield`` stands where asyncio.Runner's code calls
``run_forever``: the core iterates the loop, in the host, until the loop is stopped or an iteration
raises, and resumes the script with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
import warnings
from asyncio import constants, tasks
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any

from . import _core
from ._ended import Ended
from ._hosts import Host
from ._running import RunForever, between_runs, inside, on_main_thread
from ._session import Session
from ._sigint import Interrupts
from ._warnings import AbandonedGuestWarning, HostDiedWarning

if TYPE_CHECKING:
    import outcome

FINISH_TIMEOUT = 5.0
"""Seconds that a guest has to finish once its host has gone."""


class GuestLost(RuntimeError):
    """The guest's host had gone and the guest did not finish within the time it was given."""


def unreported(ended: object) -> None:
    """The done_callback of a driver whose caller looks at `Driver.ended` itself."""


def _stop_loop(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and isinstance(future.exception(), (KeyboardInterrupt, SystemExit)):
        return  # it has left run_forever already, by being raised
    future.get_loop().stop()


class Driver(Session):
    """Runs one main task as a guest, from `begin` to `done_callback`.  Host thread only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        done_callback: Callable[[outcome.Outcome[Any]], object] | None,
        *,
        unset_event_loop: bool,
    ) -> None:
        super().__init__(loop)
        self.host = host
        self.ended: Ended | None = None
        self.done = False
        self.cancelled = False
        self.task: asyncio.Task[Any]
        if done_callback is not None and done_callback is not unreported:
            import outcome  # noqa: F401  # now rather than at the end, where nobody could be told that it is missing
        self._done_callback = done_callback
        self._unset_event_loop = unset_event_loop
        self._exiting = False
        self._running = RunForever(loop)
        self._interrupts: Interrupts | None = None
        self._modals_closed: asyncio.Future[None] | None = None
        self._main_ended: Ended | None = None
        self._outcome: outcome.Outcome[Any] | None = None
        self._script = self._phases()
        self.tasks: set[asyncio.Task[Any]] = set()

    @property
    def outcome(self) -> outcome.Outcome[Any] | None:
        """What `done_callback` gets; None before the end."""
        if self._outcome is None and self.ended is not None:
            self._outcome = self.ended.outcome()
        return self._outcome

    # -- start ---------------------------------------------------------------------------------------------

    def begin(self, coro: Coroutine[Any, Any, Any], context: Any) -> None:
        """Make the main task and attach to the host.  Nothing of the task runs here."""
        # The loop does not run yet, so that an eager task factory does not start the task early.
        self.task = self.loop.create_task(coro, context=context)
        try:
            self._running.enter(hosted=True, apart=self.host.apart)
            next(self._script)
            self.core.attach()
        except BaseException:
            self.task._log_destroy_pending = False  # type: ignore[attr-defined]
            self._drop()
            raise

    def _drop(self) -> None:
        """Undo `begin`."""
        self.done = True
        if self._interrupts is not None:
            self._interrupts.restore()
        self._script.close()
        self._leave()
        with contextlib.suppress(Exception):
            self.core.detach()
        self.forget()

    def _leave(self) -> None:
        """Leave ``run_forever``, and close the loop.  Idempotent."""
        # While the loop's self-pipe is still open.
        self.core.release_wakeup_fd()
        self._running.leave()
        if self._unset_event_loop:
            self._unset_event_loop = False
            asyncio.set_event_loop(None)
        self.loop.__dict__.pop("add_signal_handler", None)
        with _kept_wakeup_fd(self.loop):
            self.loop.close()

    # -- what the core calls -------------------------------------------------------------------------------

    def on_stop(self, exc: BaseException | None) -> bool:
        """The loop was stopped, or an iteration raised `exc`.  True: another phase begins."""
        try:
            self.loop._stopping = False
            return self._advance(exc)
        finally:
            del self, exc  # from 3.12 on, the frames of an error's generators lead to this one

    def on_done(self) -> None:
        """The guest is over and the host is closed: report, exactly once."""
        if self.done:
            return
        self.done = True
        self.closed()
        if self.ended is None:
            self.ended = Ended(error=GuestLost("the guest ended before its main task did"))
        error = self.ended.error
        callback, self._done_callback = self._done_callback, None
        try:
            if callback is not None:
                if callback is not unreported:
                    result = self.outcome
                    assert result is not None
                    callback(result)
            elif error is not None and not self._was_asked_for(error):
                _report(error)
        except BaseException as exc:
            _report(exc)

    def on_host_died(self) -> None:
        """The host goes away under the guest."""
        if self.done:
            return
        warnings.warn(
            f"the host {self.core.host_name!r} has gone before its guest was over; the guest's main task "
            f"{self.task.get_name()!r} is cancelled and the guest is finished without the host",
            HostDiedWarning,
            stacklevel=2,
        )
        self.finish(FINISH_TIMEOUT)

    # -- the script ----------------------------------------------------------------------------------------

    def _advance(self, exc: BaseException | None) -> bool:
        try:
            if exc is None:
                next(self._script)
            else:
                self._script.throw(exc)
        except StopIteration:
            return False
        except BaseException as error:
            self.ended = Ended(error=error)
            return False
        finally:
            del self, exc  # as in on_stop
        return True

    def _phases(self) -> Generator[None, None, None]:
        try:
            result = Ended((yield from self._main()))
        except GeneratorExit:
            raise
        except BaseException as exc:
            result = Ended(error=exc)
        self._main_ended = result
        try:
            yield from self._teardown()
        except GeneratorExit:
            raise
        except BaseException as exc:
            # As for asyncio.run: what the teardown raises replaces what the task raised.
            if exc.__context__ is None and result.error is not None and result.error is not exc:
                exc.__context__ = result.error
            result = Ended(error=exc)
        self.ended = result
        # This frame, and those below, are in the traceback of an error: they let go of what leads back to it.
        del self, result

    def _main(self) -> Generator[None, None, Any]:
        interrupts = self._interrupts = Interrupts(self.task)
        interrupts.install()
        try:
            return (yield from self._until_complete(self.task))
        except asyncio.CancelledError:
            if interrupts.count > 0 and self.task.uncancel() == 0:
                raise KeyboardInterrupt
            raise
        finally:
            interrupts.restore()
            del self, interrupts

    def _teardown(self) -> Generator[None, None, None]:
        try:
            yield from self._cancel_all()
            yield from self._run(self.loop.shutdown_asyncgens())
            yield from self._run(self._shutdown_executor())
            while self.modals:
                waiter = self._modals_closed = self.loop.create_future()
                yield from self._until_complete(waiter)
        finally:
            self._leave()
            del self

    def _cancel_all(self) -> Generator[None, None, None]:
        to_cancel = tasks.all_tasks(self.loop)
        if not to_cancel:
            return
        for task in to_cancel:
            task.cancel()
        with between_runs(self.loop):
            everything = tasks.gather(*to_cancel, return_exceptions=True)
        yield from self._until_complete(everything)
        for task in to_cancel:
            if not task.cancelled() and task.exception() is not None:
                self.loop.call_exception_handler(
                    {
                        "message": "unhandled exception during asyncio.run() shutdown",
                        "exception": task.exception(),
                        "task": task,
                    }
                )

    def _shutdown_executor(self) -> Coroutine[Any, Any, Any]:
        loop = self.loop
        if self._exiting and loop._default_executor is not None:
            return _shutdown_without_thread(loop)
        timeout = getattr(constants, "THREAD_JOIN_TIMEOUT", None)  # 3.12
        shutdown: Coroutine[Any, Any, Any]
        shutdown = loop.shutdown_default_executor() if timeout is None else loop.shutdown_default_executor(timeout)
        return shutdown

    def _run(self, coro: Coroutine[Any, Any, Any]) -> Generator[None, None, Any]:
        """``run_until_complete`` of a coroutine."""
        with between_runs(self.loop):
            task = self.loop.create_task(coro)
        task._log_destroy_pending = False
        return self._until_complete(task, ours=True)

    def _until_complete(self, future: asyncio.Future[Any], *, ours: bool = False) -> Generator[None, None, Any]:
        """``run_until_complete`` of a future; `ours`: nobody else can retrieve its exception."""
        future.add_done_callback(_stop_loop)
        try:
            try:
                yield
            except BaseException:
                if ours and future.done() and not future.cancelled():
                    future.exception()
                raise
            finally:
                future.remove_done_callback(_stop_loop)
            if not future.done():
                raise RuntimeError("Event loop stopped before Future completed.")
            return future.result()
        finally:
            del self, future

    # -- from outside --------------------------------------------------------------------------------------

    def cancel(self, msg: object = None) -> bool:
        """Cancel the main task.  Host thread."""
        self.cancelled = True
        return self.task.cancel(msg)

    def throw(self, exc: BaseException) -> None:
        """The host's main loop raised `exc` where an iteration might have: go to the next phase."""
        with inside(self.loop):
            more = self._advance(exc)
        if not more:
            self.core.detach()
            self.on_done()

    def drive(self) -> None:
        """Run the host's main loop until the guest is over.

        Raises what the host's main loop raised, except where it stands for an interrupt of the guest.
        """
        try:
            while not self.done:
                try:
                    self.core.run()
                except (KeyboardInterrupt, SystemExit) as exc:
                    if self.done:
                        raise
                    self.throw(exc)
                except BaseException:
                    self.finish(FINISH_TIMEOUT)
                    raise
                else:
                    if not self.done:
                        self.on_host_died()
        finally:
            del self  # an error's traceback holds this frame

    def finish(self, timeout: float) -> None:
        """Cancel the main task and drive the guest on poll(2) until it is over, at most `timeout` seconds.

        After that nothing of the guest is left in the host, and `done_callback` was called.
        """
        try:
            if self.done:
                return
            for modal in list(self.modals):
                modal.drop()
            if not self.core.turning:
                self.cancel()
                if self._finish_on_poll(time.monotonic() + timeout):
                    return
            self._give_up(GuestLost(f"the guest did not finish within {timeout:g} s after its host had gone"))
        finally:
            del self  # as in on_stop

    def _finish_on_poll(self, end: float) -> bool:
        """The core calls `on_done` as soon as nothing of the host is on the stack."""
        try:
            while not self.done:
                try:
                    return self.core.finish_on_poll(max(0.0, end - time.monotonic()))
                except KeyboardInterrupt as exc:
                    self.throw(exc)
            return True
        finally:
            del self  # as in on_stop

    def _give_up(self, error: Exception) -> None:
        turning = self.core.turning
        with contextlib.suppress(Exception):
            self.core.detach()
        if self.ended is None:
            self.ended = self._main_ended or Ended(error=error)
        if self._interrupts is not None:
            self._interrupts.restore()
        if not turning:
            try:
                self._script.close()
                self._leave()
            except Exception as exc:
                _report(exc)
        self.on_done()

    def modal_closed(self) -> None:
        waiter = self._modals_closed
        if not self.modals and waiter is not None and not waiter.done() and not self.loop.is_closed():
            waiter.set_result(None)

    def at_exit(self, timeout: float) -> None:
        if self.done:
            return
        self._exiting = True
        self.warn_abandoned("when the interpreter ended")
        self.finish(timeout)

    def warn_abandoned(self, when: str) -> None:
        """Say that nobody can drive the guest any more."""
        warnings.warn(
            f"a guest of the host {self.core.host_name!r} was still running {when}; its main task "
            f"{self.task.get_name()!r} is cancelled. Cancel the guest, and let done_callback end the host",
            AbandonedGuestWarning,
            stacklevel=2,
        )

    def after_fork_child(self) -> None:
        self.done = True
        if self._interrupts is not None:
            self._interrupts.restore()
        super().after_fork_child()

    def __del__(self) -> None:
        # Garbage: neither the host nor the program can reach the guest.
        if self.done or self.counted or not hasattr(self, "task") or not hasattr(self, "core"):
            return
        if sys.is_finalizing() or self.core.done:
            return
        self.warn_abandoned("when its host dropped it")
        if threading.current_thread() is self.thread:
            self.finish(FINISH_TIMEOUT)
        else:
            with contextlib.suppress(Exception):
                self.core.detach()

    def _was_asked_for(self, error: BaseException) -> bool:
        return self.cancelled and isinstance(error, asyncio.CancelledError)


@contextlib.contextmanager
def _kept_wakeup_fd(loop: Any) -> Iterator[None]:
    """A loop that is closed with signal handlers unsets the wakeup descriptor, which is the host's again."""
    fd = -1
    if getattr(loop, "_signal_handlers", None) and on_main_thread():
        fd = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        if fd != -1:
            signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


async def _shutdown_without_thread(loop: Any) -> None:
    """``shutdown_default_executor`` for an interpreter that ends: 3.12 and later start no thread then.

    The executor's threads end one after the other without telling; the guest's time is bounded by its caller.
    """
    executor = loop._default_executor
    loop._executor_shutdown_called = True
    executor.shutdown(wait=False)
    while any(thread.is_alive() for thread in getattr(executor, "_threads", ())):
        await asyncio.sleep(0.005)


def _report(error: BaseException) -> None:
    sys.excepthook(type(error), error, error.__traceback__)
