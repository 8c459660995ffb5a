"""Faults of what becomes of exceptions."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Any

from . import Loop, Runs, broken


@broken(
    "what goes to the exception handler is told twice",
    "E.01a-out-of-a-callback",
    "E.01b-one-error-of-many",
    "E.07a-errors-of-protocols",
    "K.03b-shield-and-an-error-nobody-awaits",
    "K.07a-never-retrieved",
    "K.07b-pending-task-destroyed",
    "K.10a-cancellation-at-teardown",
    "Z.07b-teardown-errors",
)
class ToldTwice(Loop):
    def call_exception_handler(self, context: Any) -> None:
        super().call_exception_handler(context)
        super().call_exception_handler(context)


@broken(
    "what goes to the exception handler is worded otherwise",
    "E.01d-words-of-the-default-handler",
    "E.07b-words-about-protocols",
    sees=("WEAK",),
)
class OwnWords(Loop):
    def call_exception_handler(self, context: Any) -> None:
        super().call_exception_handler({**context, "message": f"this loop says: {context['message']}"})


@broken(
    "what nobody retrieves and what is destroyed while it is pending goes without a word",
    "K.07a-never-retrieved",
    "K.07b-pending-task-destroyed",
)
class LostWithoutAWord(Loop):
    def call_exception_handler(self, context: Any) -> None:
        if "never retrieved" not in context["message"] and "destroyed" not in context["message"]:
            super().call_exception_handler(context)


@broken("an error that no handler takes is printed, past logging", "E.01c-default-handler")
class PrintedPastLogging(Loop):
    def default_exception_handler(self, context: Any) -> None:
        traceback.print_exception(context.get("exception"), file=sys.stderr)


@broken("an error of the exception handler itself is swallowed", "E.02a-out-of-the-handler")
class HandlersErrorSwallowed(Loop):
    def call_exception_handler(self, context: Any) -> None:
        with contextlib.suppress(Exception):  # the fault
            (self.get_exception_handler() or type(self).default_exception_handler)(self, context)


@broken(
    "SystemExit and KeyboardInterrupt out of a callback stop the loop and are forgotten",
    "E.02b-handler-leaves",
    "E.03a-leaving-from-a-callback",
    "E.03b-loop-usable-after-leaving",
    "K.08a-base-exception-out-of-a-task",
)
class LeavingForgotten(Loop):
    def _run_once(self) -> None:
        try:
            super()._run_once()
        except (SystemExit, KeyboardInterrupt):
            self.stop()


@broken("a group of exceptions comes out of the run as its first member", "E.04-exception-groups")
class GroupsTakenApart(Loop):
    def run_until_complete(self, future: Any) -> Any:
        try:
            return super().run_until_complete(future)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


@broken(
    "an error of the loop's own is told to the handler, and only stops the loop",
    "E.05a-error-in-poll",
    "E.05b-error-in-processing",
    "E.05c-error-in-the-clock",
    sees=("FAIL", "WEAK"),
)
class OwnErrorsOnlyTold(Runs):
    def run(self, main: Any, *, debug: bool | None = None, loop_factory: Any = None) -> Any:
        def make() -> Any:
            loop: Any = (loop_factory or Loop)()
            once = loop._run_once

            def guarded() -> None:
                try:
                    once()
                except Exception as error:
                    loop.call_exception_handler({"message": "error in the loop", "exception": error})
                    loop.stop()

            loop._run_once = guarded
            return loop

        return super().run(main, debug=debug, loop_factory=make)


@broken("the exception handler is told message and exception only", "E.08-what-the-handler-is-told")
class LittleTold(Loop):
    def call_exception_handler(self, context: Any) -> None:
        super().call_exception_handler({key: context.get(key) for key in ("message", "exception")})
