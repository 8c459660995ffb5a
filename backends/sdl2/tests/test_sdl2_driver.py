"""The host driver of pygame: what a case may count on."""

from __future__ import annotations

import textwrap
from typing import Any


def test_timers_end_with_their_driver(run_program: Any, display: str, python: str) -> None:
    """SDL's timers outlive pygame.quit(), which frees what pygame's read when they fire: one of a driver that was closed
    fired as one that the next driver had just set (`harness leaks`: H.04b, H.07, G.09 and N.04c, after ten seconds)."""
    out = run_program(textwrap.dedent("""
        import time
        from asyncio_guest.backends.sdl2.driver import make_driver

        def late():
            print("a timer of a driver that is closed", flush=True)

        def early():
            print("too early", flush=True)

        for life in range(40):
            driver = make_driver()
            for ms in (10, 280, 700, 800):
                driver.host_timer(ms, late)
            driver.host_timer(700, late).cancel()
            driver.close()
        driver = make_driver()
        for _ in range(4):
            driver.host_timer(60_000, early)
        until = time.monotonic() + 1.5

        def look():
            if time.monotonic() > until:
                driver.quit()

        looks = driver.host_timer(10, look, repeat=True)
        driver.run()
        looks.cancel()
        print(len(driver._timers) >= 4)
        driver.close()
        print("closed", time.monotonic() - until < 10)
    """), display=display, python=python, SDL_AUDIODRIVER="dummy", PYGAME_HIDE_SUPPORT_PROMPT="1")
    assert out.splitlines() == ["True", "closed True"]
