"""The sample application, used as a user would: a real pointer, real keys, and the pixels that the X server has."""

from __future__ import annotations

import json
from typing import Any

PROGRAM = """
    import asyncio, json, os, subprocess, sys, time
    os.environ.update(SDL_VIDEO_WINDOW_POS="40,30", SDL_VIDEODRIVER="x11", PYGAME_HIDE_SUPPORT_PROMPT="1")
    from asyncio_guest.backends import _x11, sample_tasks
    from asyncio_guest.backends.sdl2 import sample as module

    picture, = sys.argv[1:]
    pygame = module.pygame
    sample_tasks.RATE //= 2
    sample = module.Sample(None)
    window = pygame.display.get_wm_info()["window"]
    seen = {}

    async def until(condition, what):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, what
            await asyncio.sleep(0.01)

    def at(box, x=0.5):
        return _x11.origin(window, box.x + int(box.width * x), box.centery)

    def area(box):
        from Xlib import X, display
        connection = display.Display()
        try:
            place = _x11.origin(window, *box.topleft)
            return connection.screen().root.get_image(*place, *box.size, X.ZPixmap, 0xFFFFFFFF).data
        finally:
            connection.close()

    def pixel(x, y):
        from Xlib import X, display
        connection = display.Display()
        try:
            image = connection.screen().root.get_image(x, y, 1, 1, X.ZPixmap, 0xFFFFFFFF)
            return list(image.data[2::-1])
        finally:
            connection.close()

    async def drive():
        await until(lambda: sample.running and sample.frames > 3, "the clock")
        _x11.focus(window)
        await until(pygame.key.get_focused, "no keyboard")
        # A download; what the bar shows is what the screen shows.
        _x11.click(*at(module.DOWNLOAD))
        await until(lambda: sample.fraction > 0.2, "no download")
        await asyncio.sleep(0.1)
        seen["filled"] = pixel(*at(module.BAR, 0.1))
        seen["empty"] = pixel(*at(module.BAR, 0.97))
        # Typing meanwhile: the entry's pixels change.
        before, entry = sample.fraction, area(module.ENTRY)
        for character in "guest":
            _x11.key(character)
            await asyncio.sleep(0.03)
        await until(lambda: sample.text == "guest", "the text field is dead")
        await until(lambda: sample.fraction > before, "the bar stands still while typing")
        await until(lambda: area(module.ENTRY) != entry, "what was typed is not on the screen")
        # The frames go on.
        frames, begin = sample.frames, time.monotonic()
        await until(lambda: sample.fraction > 0.4, "the bar stands still")
        for _ in range(2):
            late = sample.late
            await until(lambda: sample.late != late, "no latency check")
        seen["fps"] = (sample.frames - frames) / (time.monotonic() - begin)
        if picture:
            await asyncio.to_thread(subprocess.run, ["import", "-window", str(window), picture], check=True)
        # Cancel.
        _x11.click(*at(module.CANCEL))
        await until(lambda: sample.status == "Cancelled.", "not cancelled")
        stopped = sample.fraction
        await asyncio.sleep(0.3)
        assert sample.fraction == stopped
        # To the end.
        sample_tasks.RATE *= 32
        _x11.click(*at(module.DOWNLOAD))
        await until(lambda: sample.status == "Done: 24.0 MiB.", "not done")
        seen["counters"] = sample.guest.counters
        close()

    def close():
        from Xlib import X, display, protocol
        connection = display.Display()
        target = connection.create_resource_object("window", window)
        data = (32, [connection.intern_atom("WM_DELETE_WINDOW"), X.CurrentTime, 0, 0, 0])
        atom = connection.intern_atom("WM_PROTOCOLS")
        event = protocol.event.ClientMessage(window=target, client_type=atom, data=data)
        target.send_event(event)
        connection.sync()
        connection.close()

    driving = sample.guest.start_soon(drive)

    def failed(task):
        if not task.cancelled() and task.exception():
            sample.guest.cancel()
    driving.add_done_callback(failed)
    sample.run()
    driving.result()
    seen["done"] = sample.guest.done
    pygame.quit()
    print(json.dumps(seen))
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
