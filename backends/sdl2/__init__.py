"""The backend ``sdl2``: asyncio as a guest in a program of pygame's or pygame-ce's, with the SDL that it has loaded.

A program of pygame's has a main loop of its own.  It needs one thing: a place where the guest runs.  That is `Clock`,
between two frames; or `handles`, for a program that waits for events; or `pump`, anywhere else.  `Loop` is a main loop
for programs that want none of their own.

Importing this module does not import pygame.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncio_guest._hosts import Host

_BUDGET = 0.004
"""Seconds that `Loop.take` may take while events are left: as long as a turn of the guest's."""
_bell = 0
"""The type of our events; 0: none yet, or pygame was quit since."""


def handles(event: Any) -> bool:
    """Run what the guest has to do if `event` is the guest's own.  True if it is: nobody else wants it.

    For programs that wait for events: ``event = pygame.event.wait()``, ``if not sdl2.handles(event): ...``.  Call it on
    the main thread, outside of coroutines.
    """
    from . import _sdl2

    return _sdl2.handle(event.type)


def pump() -> None:
    """Run what the guest has to do, if anything, and return.  Main thread."""
    from . import _sdl2

    _sdl2.pump()


class Clock:
    """``pygame.time.Clock``, with a guest that goes on while `tick` waits for the next frame.  Main thread."""

    def __init__(self) -> None:
        import pygame.time

        self._clock = pygame.time.Clock()
        self._due = self._returned = time.monotonic_ns()
        self._raw = 0

    def tick(self, framerate: float = 0) -> int:
        """Let the guest run until the next frame of `framerate` a second is due, and at least once; 0 does not wait.

        Returns the milliseconds since the call before.  Frames that the program missed are not made up for.
        """
        from . import _sdl2

        now = time.monotonic_ns()
        self._raw = (now - self._returned) // 1_000_000
        period = int(1e9 / framerate) if framerate > 0 else 0
        self._due = max(self._due + period, now)
        _sdl2.serve_until(self._due)
        self._returned = time.monotonic_ns()
        if self._returned - self._due > period:
            self._due = self._returned
        passed: int = self._clock.tick()
        return passed

    tick_busy_loop = tick

    def get_time(self) -> int:
        """Milliseconds between the last two ticks."""
        passed: int = self._clock.get_time()
        return passed

    def get_rawtime(self) -> int:
        """The same without what `tick` waited."""
        return self._raw

    def get_fps(self) -> float:
        """Frames a second, over the last ten."""
        rate: float = self._clock.get_fps()
        return rate


class Loop:
    """A main loop of pygame's events, for programs that write none: `on_event` is called with each.

    ``asyncio_guest.run(main(), host=Loop(on_event))`` runs it until the guest is over; for a guest that was started
    (``asyncio_guest.start(main(), host=loop)``), call `run`.  Main thread.
    """

    def __init__(self, on_event: Callable[[Any], object]) -> None:
        self._on_event = on_event
        self._running = False
        self._over = False

    def run(self) -> None:
        """Wait for events and handle them until `quit` is called or the display is quit.

        What `on_event` raises ends the loop.  Raises RuntimeError if it runs already, and pygame.error without a
        display.
        """
        import pygame

        from . import _sdl2

        if self._running:
            raise RuntimeError("the loop runs already; a loop inside a handler calls step()")
        if not pygame.display.get_init():
            raise pygame.error("the display is not initialised: call pygame.display.init() first")
        self._running = True
        try:
            while not self._over and _sdl2.alive():
                self.step()
        finally:
            self._running = self._over = False

    def quit(self) -> None:
        """End the loop soon: `run`, or that of ``asyncio_guest.run``.  Does nothing if neither runs."""
        from . import _sdl2

        self._over = self._running or _sdl2.running()

    def step(self) -> None:
        """Wait for one event and handle it.  A loop inside a handler, a menu say, calls this."""
        import pygame.event

        event = pygame.event.wait()
        if not handles(event):
            self._on_event(event)

    def take(self) -> bool:
        """Handle the events that are there, for some milliseconds at most; True if the loop is to end."""
        import pygame

        until = time.monotonic() + _BUDGET
        while not self._over and pygame.display.get_init():
            event = pygame.event.poll()
            if event.type in (pygame.NOEVENT, _bell):
                break  # the bell: something is due, which the caller runs; what comes behind it is taken the next time
            self._on_event(event)
            if time.monotonic() >= until:
                break
        over, self._over = self._over, False
        return over


def _quit() -> None:
    """pygame.quit() was called: it takes event types and timers along."""
    global _bell
    from . import _sdl2

    _bell = 0
    _sdl2.shut_down()


def _import_pygame() -> Any:
    """pygame, without the greeting that it prints if we are the first to import it."""
    if "pygame" in sys.modules:
        return sys.modules["pygame"]
    greeting = os.environ.get("PYGAME_HIDE_SUPPORT_PROMPT")
    os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
    try:
        import pygame
    finally:
        if greeting is None:
            del os.environ["PYGAME_HIDE_SUPPORT_PROMPT"]
    return pygame


def _use_pygame() -> Any:
    """Bind the backend to the SDL of pygame, and have a type of event of its own."""
    global _bell
    from . import _sdl2

    pygame = _import_pygame()
    if not _bell:
        bell = pygame.event.custom_type()
        _sdl2.use(pygame.event.__file__, bell)
        pygame.register_quit(_quit)
        _bell = bell
    return pygame


@dataclass(frozen=True)
class Sdl2Backend:
    """``BACKEND`` of this package."""

    name: str = "sdl2"
    strategies: tuple[str, ...] = ("waiter",)

    def missing(self) -> str | None:
        """None, or what to install."""
        if importlib.util.find_spec("pygame") is None:
            return "this Python has no pygame; on Debian: apt-get install python3-pygame; or: pip install pygame-ce"
        try:
            from . import _sdl2  # noqa: F401
        except ImportError as exc:
            return f"the backend was not built ({exc}); on Debian: apt-get install libsdl2-dev, and build again"
        return None

    def accepts(self, obj: object) -> bool:
        """The module ``pygame`` itself, or a `Loop`."""
        return isinstance(obj, Loop) or (obj is not None and obj is sys.modules.get("pygame"))

    def open(self, obj: object | None) -> Host:
        """SDL's event queue.  With a `Loop`, ``run`` takes events out for it; otherwise it leaves them to coroutines.

        Raises TypeError for another object, and RuntimeError on any thread but the main one: SDL's events are its own.
        """
        if obj is not None and not Sdl2Backend.accepts(self, obj):
            raise TypeError(f"neither pygame nor a Loop: {obj!r}")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("SDL's events belong to the main thread: start the guest there")
        pygame = _use_pygame()
        from . import _sdl2

        version = ".".join(str(part) for part in pygame.get_sdl_version())
        kind = "pygame-ce" if getattr(pygame, "IS_CE", False) else "pygame"
        return Host(_sdl2.ops, obj.take if isinstance(obj, Loop) else None,
                    {"sdl": version, "binding": f"{kind} {pygame.version.ver}"})


BACKEND = Sdl2Backend()
