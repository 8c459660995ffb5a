"""Faults of asynchronous generators."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import sys
from typing import Any

from . import Loop, broken, patch


@broken("the hooks for asynchronous generators are never set", "A.01-hooks-installed")
class HooksMissing(Loop):
    def _run_once(self) -> None:
        sys.set_asyncgen_hooks(None, None)
        super()._run_once()


@broken("shutdown_asyncgens does not wait for the generators that it closes", "A.02c-shutdown-asyncgens")
class GeneratorsNotAwaited(Loop):
    async def shutdown_asyncgens(self) -> None:
        self._closers = [self.create_task(generator.aclose()) for generator in self._asyncgens]


@broken("what a generator is asked for while it is busy is dropped without a word", "A.03a-already-running")
def dropped_while_busy() -> asyncio.AbstractEventLoop:
    def drops(old: Any) -> Any:
        async def next_one(generator: Any, *default: Any) -> Any:
            return None if generator.ag_running else await old(generator, *default)

        return next_one

    patch(builtins, "anext", drops)
    return Loop()


@broken("a generator that is dropped is closed by whatever loop runs then", "A.04-own-loop")
def closed_by_the_current_loop() -> asyncio.AbstractEventLoop:
    def closes(self: Any, generator: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.create_task, generator.aclose())

    patch(asyncio.BaseEventLoop, "_asyncgen_finalizer_hook", lambda old: closes)
    return Loop()


@broken("a run leaves no hooks for asynchronous generators, whatever was set before it", "A.05-hooks-restored")
class HooksCleared(Loop):
    def run_forever(self) -> None:
        super().run_forever()
        sys.set_asyncgen_hooks(None, None)


@broken("a generator that is dropped is closed by bare callbacks, outside any task", "A.06a-dropped-half-way")
class ClosedOutsideTasks(Loop):
    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        self.call_soon_threadsafe(self._step, generator.aclose())

    def _step(self, closing: Any, *_: Any) -> None:
        with contextlib.suppress(StopIteration):
            closing.send(None).add_done_callback(lambda _: self._step(closing))


@broken("a generator that another thread drops does not wake the loop", "A.06b-dropped-by-a-thread", sees=("TIMEOUT",))
class DropDoesNotWake(Loop):
    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        self.call_soon(self.create_task, generator.aclose())


@broken("shutdown_asyncgens stops at the first error", "A.07a-errors-in-clean-up")
class ShutdownStopsAtError(Loop):
    async def shutdown_asyncgens(self) -> None:
        for generator in list(self._asyncgens):
            await generator.aclose()


@broken("an error in the clean-up of a generator that is dropped is forgotten", "A.07b-error-of-a-dropped-one")
class CleanUpErrorsForgotten(Loop):
    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        async def close() -> None:
            with contextlib.suppress(Exception):
                await generator.aclose()

        self.call_soon_threadsafe(self.create_task, close())


@broken("a generator that begins after shutdown_asyncgens does so without a warning", "A.08-after-the-shutdown")
class NoWarningAfterShutdown(Loop):
    def _asyncgen_firstiter_hook(self, generator: Any) -> None:
        self._asyncgens.add(generator)
