"""Contenders with one fault each: the framework has to see it."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

_kept: list[Any] = []


class Good:
    """A contender that is asyncio; also the shortest example of one."""

    loop_class: type[asyncio.SelectorEventLoop] = asyncio.SelectorEventLoop
    declares: dict[str, str] = {}

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop_class()

    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        with asyncio.Runner(loop_factory=self.loop_class, debug=options.get("debug")) as runner:
            return runner.run(main)


class _Deaf(asyncio.SelectorEventLoop):
    def _write_to_self(self) -> None:
        pass  # the wake is lost


class LosesWake(Good):
    loop_class = _Deaf


class _Dozing(_Deaf):
    """What it sleeps through it notices at the next signal, such as the one that asks for stacks."""

    def run_forever(self) -> None:
        self.add_signal_handler(signal.SIGUSR2, int)
        try:
            super().run_forever()
        finally:
            self.remove_signal_handler(signal.SIGUSR2)


class WakesBySignal(Good):
    loop_class = _Dozing


class _Swallowing(asyncio.SelectorEventLoop):
    timers = 0

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = super().call_at(when, callback, *args, context=context)
        type(self).timers += 1
        if self.timers == 2:
            handle.cancel()
        return handle


class SwallowsEvent(Good):
    loop_class = _Swallowing


class _Reordering(asyncio.SelectorEventLoop):
    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        if args == ("fired", 1):
            when += 0.0015  # behind its successor
        return super().call_at(when, callback, *args, context=context)


class Reorders(Good):
    loop_class = _Reordering


class Hangs(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        async def stuck() -> None:
            if "trivial" not in main.__qualname__:
                asyncio.get_running_loop().create_task(asyncio.sleep(1000), name="a-task-that-waits")
                await asyncio.sleep(0)
                threading.Lock().acquire()
                hang_here = threading.Lock()
                hang_here.acquire()
                hang_here.acquire()

        super().run(stuck())
        return super().run(main)


class Crashes(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        if "trivial" not in main.__qualname__:
            self.crash_here()
        return super().run(main)

    def crash_here(self) -> None:
        ctypes.string_at(0)


class CrashesAtExit(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        if "trivial" not in main.__qualname__:
            atexit.register(ctypes.string_at, 0)
        return super().run(main)


class LeaksFd(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        _kept.append(os.pipe())
        return super().run(main)


class LeaksObjects(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        _kept.append([object()])
        return super().run(main)


class LeaksThread(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        if "trivial" not in main.__qualname__:
            threading.Thread(target=time.sleep, args=(1000,), daemon=True, name="left-behind").start()
        return super().run(main)


class LeaksChild(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        if "trivial" not in main.__qualname__:
            # In a group of its own: what is left of the cell's group is looked for elsewhere.
            program = "import os, time; parent = os.getppid()\nwhile os.getppid() == parent: time.sleep(0.1)"
            _kept.append(subprocess.Popen([sys.executable, "-c", program], start_new_session=True))
        return super().run(main)


class ChangesWakeupFd(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        try:
            return super().run(main)
        finally:
            a, b = socket.socketpair()
            a.setblocking(False)
            _kept.extend([a, b])
            signal.set_wakeup_fd(a.fileno())


class Unclean(Good):
    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        loop = self.new_loop()
        try:
            return loop.run_until_complete(main)
        finally:
            asyncio.set_event_loop(None)
            task = loop.create_task(asyncio.sleep(0))
            loop.close()
            del loop, task


class Declares(Good):
    declares = {"threads": "it has no call_soon_threadsafe", "X.90-*": "it has no order"}


class Fails(Good):
    """Cannot even start."""

    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        main.close()
        raise RuntimeError("it does not start")


good, loses_wake, wakes_by_signal, swallows_event, reorders = Good, LosesWake, WakesBySignal, SwallowsEvent, Reorders
hangs, crashes = Hangs, Crashes
crashes_at_exit, leaks_fd, leaks_thread, leaks_child = CrashesAtExit, LeaksFd, LeaksThread, LeaksChild
leaks_objects = LeaksObjects
changes_wakeup_fd, unclean, declares, fails = ChangesWakeupFd, Unclean, Declares, Fails
