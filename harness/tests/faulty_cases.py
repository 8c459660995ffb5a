"""A few short cases for the framework's own tests."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import threading
import time

from scenarios.api import CaseContext, case


@case("X.90-order", "Callbacks of one deadline run in order.", timeout=3)
async def order(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    when = loop.time() + 0.01
    for number in range(4):
        loop.call_at(when + number * 0.001, t.log, "fired", number)
    loop.call_at(when + 0.02, done.set_result, None)
    await done


@case("X.91-threadsafe", "A call from a thread wakes the loop.", timeout=3)
async def threadsafe(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def call() -> None:
        time.sleep(0.1)
        loop.call_soon_threadsafe(future.set_result, "woken")

    thread = threading.Thread(target=call)
    thread.start()
    try:
        t.log("got", await future)
    finally:
        thread.join()


@case("X.92-check", "A check that never holds.", level="SHOULD", oracle="own", timeout=3)
async def never(t: CaseContext) -> None:
    t.check(False, "one is not two", one=1, two=2)


@case("X.93-alternates", "Passes every other time.", oracle="own", timeout=3)
async def alternates(t: CaseContext) -> None:
    import pathlib
    import os

    mark = pathlib.Path(os.environ["ALTERNATES"])
    if mark.exists():
        mark.unlink()
        t.check(False, "the other time")
    mark.touch()


@case("X.94-needs-window", "Needs a window.", needs="host window", oracle="own")
async def window(t: CaseContext) -> None:
    t.driver.quit()


@case("X.95-info", "Only informs.", level="INFO", oracle="own")
async def informs(t: CaseContext) -> None:
    t.check(False, "as it is")


def _child(t: CaseContext) -> None:
    async def main() -> None:
        print("in the child")

    t.run(main)


@case("X.96-child", "A function runs in a fresh interpreter under the same contender.")
def child(t: CaseContext) -> None:
    ended = t.child(_child)
    t.log("child", [ended.returncode, ended.stdout, ended.stderr])
    t.check(ended.returncode == 0 and ended.stdout == "in the child\n", "the child ran", ended=ended)


@case("X.97-new-loop", "A plain function's loop is the contender's.")
def new_loop(t: CaseContext) -> None:
    loop = t.new_loop()
    try:
        t.log("ran", loop.run_until_complete(asyncio.sleep(0.001, "yes")))
    finally:
        loop.close()


@case("X.98-slow", "Takes two seconds.", oracle="own")
async def slow(t: CaseContext) -> None:
    await asyncio.sleep(2)


async def _nothing() -> None:
    pass


@case("X.87-lacks-then-fails", "A check that fails for want of an ability; the case has caught the error about it.", oracle="own")
def lacks_then_fails(t: CaseContext) -> None:
    ran = False
    try:
        t.run(_nothing, loop_factory=asyncio.SelectorEventLoop)
        ran = True
    except Exception:
        pass
    t.check(ran, "it ran")


@case("X.88-fails-then-lacks", "A check fails, unseen, before an ability is lacking.", oracle="own")
def fails_then_lacks(t: CaseContext) -> None:
    try:
        t.check(False, "wrong before anything was lacking", number=7)
    except AssertionError:
        pass
    t.run(_nothing, loop_factory=asyncio.SelectorEventLoop)


_times = itertools.count()


@case("X.85-late-failure", "Another log each time, and a check that fails the fifteenth time only.", oracle="own")
def late_failure(t: CaseContext) -> None:
    number = next(_times)
    t.log("ran", number)
    t.check(number != 14, "the fifteenth time")


@case("X.86-stray", "A process of its own that outlives it and is no child of its.", oracle="own")
def stray(t: CaseContext) -> None:
    subprocess.run(["sh", "-c", "sleep 100 &"], check=True)


@case("X.84-fails-in-a-callback", "A check fails in a hook whose caller takes no notice.", oracle="own")
def fails_in_a_callback(t: CaseContext) -> None:
    try:
        t.check(False, "seen by nobody", number=8)
    except AssertionError:
        pass
