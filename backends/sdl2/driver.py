"""The host driver of pygame: the host's side of a conformance case, by pygame's own API.

It knows no guest.  What pygame has: events, which any code can post, timers, which post them, and a window in which the
program draws everything itself, menus too.  What it has not: idle work, dialogs, and timers without a delay.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from typing import Any

import pygame

from asyncio_guest.backends.sdl2 import Loop

from .. import _x11
from .._driver import WindowDriver

_FRAME_MS = 16
_BUTTON = pygame.Rect(10, 100, 80, 30)
_ENTRY = pygame.Rect(10, 140, 300, 30)


_NEAR = 0.25
"""Seconds before it is due from which on a timer is not taken back."""


class _Timer:
    """A timer of pygame's.  Each has a type of event of its own while it runs: that is what pygame knows it by.

    All fire once, and none is taken back that may just fire: pygame up to 2.1.2 frees what its thread for timers is about
    to use (pygame#3128).  What was cancelled fires for nobody.
    """

    def __init__(self, driver: SdlDriver, ms: int, fn: Callable[[], Any], repeat: bool) -> None:
        self._driver = driver
        self._fn = fn
        # No delay means no timer to pygame.
        self._period = max(1, ms)
        self._repeat = repeat
        self._cancelled = False
        self._due = time.monotonic()
        self._start()

    def _start(self) -> None:
        now = time.monotonic()
        self._due = max(self._due + self._period / 1000, now)
        self._type = self._driver._free_types.pop() if self._driver._free_types else pygame.event.custom_type()
        self._driver._timers[self._type] = self
        pygame.time.set_timer(self._type, max(1, round((self._due - now) * 1000)), 1)

    def _fire(self) -> None:
        if not self._cancelled:
            if self._repeat:
                self._start()
            self._fn()

    def cancel(self) -> None:
        self._cancelled = True
        if self._driver._timers.get(self._type) is self and self._due - time.monotonic() > _NEAR:
            pygame.time.set_timer(self._type, 0)
            self._driver._free_types.append(self._type)
            del self._driver._timers[self._type]


class _Frames:
    """Gives the window a new colour 60 times a second and counts those that reached the X server."""

    def __init__(self, driver: SdlDriver) -> None:
        self._number = 0
        self._witness = driver.witness(driver.window_id, 10, 10)
        self._timer = _Timer(driver, _FRAME_MS, self._step, True)

    def _step(self) -> None:
        self._number += 1
        colour = self._number * 7919 % 0x1000000
        pygame.display.get_surface().fill((colour >> 16, colour >> 8 & 0xFF, colour & 0xFF), (0, 0, 300, 80))
        pygame.display.update((0, 0, 300, 80))

    def stop(self) -> int:
        self._timer.cancel()
        return self._witness.stop()


class SdlDriver(WindowDriver):
    """The driver; see ``scenarios.driver.HostDriver`` for the methods."""

    name = "sdl2"
    abilities = frozenset({"host", "loop", "nested", "flood", "timer"})
    flood_kinds = ("event",)

    def __init__(self, window: bool) -> None:
        super().__init__(window)
        if window:
            os.environ["SDL_VIDEO_WINDOW_POS"] = "20,20"
        else:
            os.environ["SDL_VIDEODRIVER"] = "dummy"
        pygame.display.init()
        self._timers: dict[int, _Timer] = {}
        self._free_types: list[int] = []
        self._call = pygame.event.custom_type()
        self._text = ""
        self._nested: list[bool] = []
        self._menu = 0
        self.closed_fds: frozenset[int] = frozenset()
        self._loop = Loop(self._on_event)
        if window:
            self._build()
        # SDL's thread for timers lives as long as SDL does, from the first timer on.
        self.host_timer(1, self.quit)
        self.run()

    def _build(self) -> None:
        surface = pygame.display.set_mode((320, 200))
        pygame.display.set_caption("conformance")
        pygame.draw.rect(surface, "grey", _BUTTON)
        pygame.draw.rect(surface, "white", _ENTRY)
        pygame.display.flip()
        pygame.key.start_text_input()
        while pygame.event.wait().type not in (pygame.WINDOWEXPOSED, pygame.VIDEOEXPOSE):
            pass
        # Not pygame.display.get_wm_info(): on X11 it reads what Wayland would have there, and crashes where that is NULL.
        self.window_id = _x11.window_of(os.getpid())
        # Without a window manager nobody gives the window the keyboard. SDL takes a while to believe that it has it.
        _x11.focus(self.window_id)
        while not pygame.key.get_focused():
            pygame.event.wait(20)

    # Callbacks: what any program of pygame's does with its events

    def _on_event(self, event: pygame.event.Event) -> None:
        try:
            if event.type == self._call:
                event.fn()
            elif event.type in self._timers:
                self._free_types.append(event.type)
                self._timers.pop(event.type)._fire()
            elif event.type == pygame.MOUSEBUTTONDOWN and event.button == 1 and _BUTTON.collidepoint(event.pos):
                self.clicked()
            elif event.type == pygame.TEXTINPUT:
                self._text += event.text
        except Exception:
            # Such a program has no place for it to go to: without this it would end.
            traceback.print_exc()

    def call_from_host(self, fn: Callable[[], Any]) -> None:
        pygame.event.post(pygame.event.Event(self._call, fn=fn))

    def host_timer(self, ms: int, fn: Callable[[], Any], *, repeat: bool = False) -> _Timer:
        return _Timer(self, ms, fn, repeat)

    # Nested loops

    def nested_loop(self, *, until: Callable[[], bool] | None = None, ms: int | None = None) -> None:
        depth = len(self._nested)
        self._nested.append(False)
        try:
            with self.ended_by(lambda: self._nested.__setitem__(depth, True), until, ms):
                while not self._nested[depth]:
                    self._loop.step()
        finally:
            del self._nested[depth:]

    def end_nested(self) -> None:
        self._nested[-1] = True

    def open_menu(self, on_open: Callable[[], Any]) -> None:
        # In pygame a menu is what the program draws, and a loop of its own while it is open.
        self.need("window")
        surface = pygame.display.get_surface()
        before = surface.copy()
        pygame.draw.rect(surface, "white", (100, 90, 80, 60))
        pygame.display.flip()
        self.call_from_host(on_open)
        self._menu = len(self._nested)
        self.nested_loop()
        surface.blit(before, (0, 0))
        pygame.display.flip()

    def close_menu(self) -> None:
        self._nested[self._menu] = True

    def process_events(self) -> None:
        self._loop.take()

    # Load and frames

    def count_frames(self) -> _Frames:
        return _Frames(self)

    # Input

    def on_screen(self, x: int, y: int) -> tuple[int, int]:
        return _x11.origin(self.window_id, x, y)

    def button_centre(self) -> tuple[int, int]:
        return self.on_screen(*_BUTTON.center)

    def take_keyboard(self) -> None:
        pass  # the window has it since it was made

    def typed(self) -> str:
        return self._text

    # The application's main loop

    def destroy_window(self) -> None:
        self.need("window")
        before = os.listdir("/proc/self/fd")
        pygame.display.quit()
        self.closed_fds = frozenset(int(fd) for fd in before if not os.path.exists(f"/proc/self/fd/{fd}"))

    def quit(self) -> None:
        self._loop.quit()

    def run(self) -> None:
        self._loop.run()

    def toolkit(self) -> Loop:
        return self._loop

    def close(self) -> None:
        super().close()
        # A timer of SDL's outlives pygame.quit(), which frees what it uses: none is left running.
        while self._timers and pygame.display.get_init():
            last = max(timer._due for timer in self._timers.values()) + _NEAR
            for timer in list(self._timers.values()):
                timer.cancel()
            if time.monotonic() > last:
                break  # its event was lost: the queue was full
            self._timers.pop(pygame.event.wait(10).type, None)
        pygame.quit()


def make_driver(window: bool = False) -> SdlDriver:
    """A driver with pygame's display initialised: with a window, or with the dummy video driver, which has none.

    Raises pygame.error without a display.
    """
    return SdlDriver(window)
