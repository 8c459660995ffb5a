"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
from typing import Any

PROGRAM = """
    import asyncio, os, sys, time
    os.environ.update(SDL_VIDEO_WINDOW_POS="40,30", SDL_VIDEODRIVER="x11", PYGAME_HIDE_SUPPORT_PROMPT="1")
    from sample_user import User, area, pixel, until
    from asyncio_guest.backends import _x11, sample_tasks
    from asyncio_guest.backends.sdl2 import sample as module

    picture, = sys.argv[1:]
    pygame = module.pygame
    sample_tasks.RATE //= 2
    sample = module.Sample(None)
    window = _x11.window_of(os.getpid())

    class SdlUser(User):
        # A program that draws everything itself: there are no widgets to ask.

        def window(self):
            return window

        def at(self, box, x=0.5):
            return _x11.origin(window, box.x + int(box.width * x), box.centery)

        async def use(self):
            seen = self.seen
            await until(lambda: sample.running and sample.frames > 3, "the clock")
            _x11.focus(window)
            await until(pygame.key.get_focused, "no keyboard")
            # A download; what the bar shows is what the screen shows.
            _x11.click(*self.at(module.DOWNLOAD))
            await until(lambda: sample.fraction > 0.2, "no download")
            await asyncio.sleep(0.1)
            seen["filled"] = pixel(*self.at(module.BAR, 0.1))
            seen["empty"] = pixel(*self.at(module.BAR, 0.97))
            # Typing meanwhile: the entry's pixels change.
            entry = *_x11.origin(window, *module.ENTRY.topleft), *module.ENTRY.size
            before, shown = sample.fraction, area(*entry)
            for number, character in enumerate("guest", 1):
                _x11.key(character)
                await until(lambda: len(sample.text) == number, "the text field is dead")
            assert sample.text == "guest"
            await until(lambda: sample.fraction > before, "the bar stands still while typing")
            await until(lambda: area(*entry) != shown, "what was typed is not on the screen")
            # The frames go on.
            frames, begin = sample.frames, time.monotonic()
            await until(lambda: sample.fraction > 0.4, "the bar stands still")
            for _ in range(2):
                late = sample.late
                await until(lambda: sample.late != late, "no latency check")
            seen["fps"] = (sample.frames - frames) / (time.monotonic() - begin)
            await asyncio.to_thread(self.take_picture)
            # Cancel.
            _x11.click(*self.at(module.CANCEL))
            await until(lambda: sample.status == "Cancelled.", "not cancelled")
            stopped = sample.fraction
            await asyncio.sleep(0.3)
            assert sample.fraction == stopped
            # To the end.
            sample_tasks.RATE *= 32
            _x11.click(*self.at(module.DOWNLOAD))
            await until(lambda: sample.status == "Done: 24.0 MiB.", "not done")

    user = SdlUser(sample, picture)
    user.begin()
    sample.run()
    pygame.quit()
    user.report()
"""


def test_sample(run_program: Any, display: str, python: str, tmp_path: Any) -> None:
    picture = tmp_path / "screenshot.png"
    seen = json.loads(run_program(PROGRAM, str(picture), display=display, python=python))
    assert seen["done"]
    red, _, blue = seen["filled"]
    assert blue - red > 60
    assert max(seen["empty"]) - min(seen["empty"]) < 20
    assert seen["fps"] > 20                 # 60 are asked for; the machine may be busy
    assert seen["counters"]["posts"] > 0
    assert picture.stat().st_size > 1000
