"""Group D: debug mode."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import warnings
from typing import Any

from ..api import CaseContext, case
from ..support import asyncio_log, iterations, settle, socket_pair, spin_until


@case(
    "D.01-slow-callback",
    "In debug mode callbacks and task steps slower than the limit are logged by name, and quick ones are not.",
    report="qasync#114",
    rejects="qasync, which times nothing",
)
def slow_callback(t: CaseContext) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.02 * t.scale

        def slow_one() -> None:
            spin_until(loop, loop.time() + 0.025 * t.scale)

        def quick_one() -> None: ...

        async def slow_step() -> None:
            await asyncio.sleep(0)
            spin_until(loop, loop.time() + 0.025 * t.scale)

        with asyncio_log() as records:
            loop.call_soon(slow_one)
            loop.call_soon(quick_one)
            loop.call_later(0.001, slow_one)
            await asyncio.create_task(slow_step(), name="the slow task")
            await asyncio.sleep(0.03 * t.scale)
        messages = [record.getMessage() for record in records if "took" in record.getMessage()]
        t.log("slow callbacks", sum("slow_one" in message for message in messages))
        t.log("slow steps", any("the slow task" in message for message in messages))

    t.run(main, debug=True)


@case(
    "D.02-checks-of-arguments",
    "In debug mode coroutines and non-callables are refused as callbacks, and blocking sockets as sockets.",
    rejects="wrappers that skip the loop's own checks",
)
def checks_of_arguments(t: CaseContext) -> None:
    async def coroutine_function() -> None: ...

    async def main() -> None:
        loop = asyncio.get_running_loop()
        coroutine = coroutine_function()
        for name, bad in (("coroutine", coroutine), ("coroutine function", coroutine_function), ("text", "text")):
            for schedule in (loop.call_soon, loop.call_soon_threadsafe, lambda cb: loop.call_later(0, cb)):
                try:
                    schedule(bad)  # type: ignore[operator]
                except TypeError as exc:
                    t.log(name, str(exc).partition("(")[0].partition(",")[0])
                else:
                    t.log(name, "taken")
        coroutine.close()
        with socket.socket() as blocking:
            try:
                await loop.sock_recv(blocking, 1)
            except ValueError as exc:
                t.log("blocking socket", str(exc))

    t.run(main, debug=True)


@case(
    "D.03-never-awaited",
    "A coroutine that is dropped before it is awaited gives a RuntimeWarning.",
    rejects="a bridge that closes coroutines quietly",
)
def never_awaited(t: CaseContext) -> None:
    async def forgotten() -> None: ...

    async def main() -> None:
        forgotten()
        await settle()

    for debug in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            t.run(main, debug=debug)
        t.log(
            "warned",
            [str(w.message).partition("\n")[0].rpartition(".")[2] for w in caught if w.category is RuntimeWarning],
        )


@case(
    "D.04-origin-tracking",
    "Tracking of coroutines' origins is on while a debugged loop runs, and as before afterwards.",
    rejects="origin tracking left on in the host",
)
def origin_tracking(t: CaseContext) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        t.log("inside", sys.get_coroutine_origin_tracking_depth() > 0)
        coroutine = iterations(1)
        t.log("origin known", coroutine.cr_origin is not None)  # type: ignore[attr-defined]
        await coroutine
        loop.set_debug(not loop.get_debug())
        await iterations(3)
        t.log("after set_debug", sys.get_coroutine_origin_tracking_depth() > 0)

    before = sys.get_coroutine_origin_tracking_depth()
    for debug in (False, True):
        t.run(main, debug=debug)
        t.log("afterwards", sys.get_coroutine_origin_tracking_depth() - before)
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        t.run(main, debug=True)
        t.log("afterwards", sys.get_coroutine_origin_tracking_depth())
    finally:
        sys.set_coroutine_origin_tracking_depth(before)


@case(
    "D.05-environment",
    "PYTHONASYNCIODEBUG makes new loops debug ones.",
    rejects="a loop that sets its flag by itself",
)
def environment(t: CaseContext) -> None:
    if sys.flags.ignore_environment:
        t.log("debug", [False, True, False])
        return
    old = os.environ.pop("PYTHONASYNCIODEBUG", None)
    seen: list[bool] = []

    async def main() -> None:
        seen.append(asyncio.get_running_loop().get_debug())

    try:
        t.run(main)
        os.environ["PYTHONASYNCIODEBUG"] = "1"
        t.run(main)
        loop = t.new_loop()
        loop.run_until_complete(main())
        loop.close()
        os.environ["PYTHONASYNCIODEBUG"] = ""
        t.run(main)
    finally:
        os.environ.pop("PYTHONASYNCIODEBUG", None)
        if old is not None:
            os.environ["PYTHONASYNCIODEBUG"] = old
    t.log("debug", seen)


@case(
    "D.06-everything-in-debug-mode",
    "Timers, sockets, workers, generators and cancellation give in debug mode what they give without.",
    needs="threads",
    rejects="an engine that only knows the undebugged loop",
)
def everything_in_debug_mode(t: CaseContext) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 60
        with socket_pair() as (a, b):
            for i in range(3):
                loop.call_later(0.001, b.send, b"%d" % i)
                t.log("received", (await loop.sock_recv(a, 10)).decode())
        t.log("worker", await asyncio.to_thread(lambda: "in a thread"))

        async def generator() -> Any:
            try:
                yield 1
            finally:
                t.log("generator closed")

        async for n in generator():
            t.log("generated", n)
            break
        await settle()
        try:
            async with asyncio.timeout(0.003):
                await asyncio.sleep(3600)
        except TimeoutError:
            t.log("timed out")
        handles = [loop.call_later(60, t.log, "never") for _ in range(150)]
        for handle in handles:
            handle.cancel()
        await asyncio.sleep(0.002)
        return "result"

    for debug in (False, True):
        t.log("result", t.run(main, debug=debug))
