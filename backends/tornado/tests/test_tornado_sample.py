"""The sample application, used as a user would: a real browser, a real pointer and real keys in it.

The browser is driven through the protocol of its developer tools, whose input events go the way of a mouse's.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("tornado")
from tornado.httpclient import AsyncHTTPClient  # noqa: E402
from tornado.websocket import websocket_connect  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs the package chromium")


class Page:
    """One page of a browser."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.ids = itertools.count(1)
        self.errors: list[str] = []

    async def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self.ids)
        await self.socket.write_message(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(await self.socket.read_message())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(answer["params"]))

    async def value(self, expression: str) -> Any:
        """What a piece of JavaScript gives."""
        answer = await self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until it is true on the page."""
        end = time.monotonic() + 30
        while not await self.value(expression):
            assert time.monotonic() < end, f"{expression}; the page says: {await self.value('document.body.innerText')}"
            await asyncio.sleep(0.02)

    async def click(self, id: str) -> None:
        box = await self.value(f"JSON.stringify(document.getElementById('{id}').getBoundingClientRect())")
        at = json.loads(box)
        where = {"x": at["x"] + at["width"] / 2, "y": at["y"] + at["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            await self.tell("Input.dispatchMouseEvent", type=kind, **where)

    async def key(self, character: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.tell("Input.dispatchKeyEvent", type=kind, key=character,
                            **({"text": character} if kind == "keyDown" else {}))


async def opened(profile: pathlib.Path, browser: subprocess.Popen[bytes]) -> Page:
    """The page that the browser shows."""
    end = time.monotonic() + 60
    ports = profile / "DevToolsActivePort"
    while not ports.exists() or "\n" not in ports.read_text():
        assert browser.poll() is None and time.monotonic() < end, "the browser did not start"
        await asyncio.sleep(0.05)
    port = ports.read_text().splitlines()[0]
    while True:
        answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json")
        pages = [page for page in json.loads(answer.body) if page["type"] == "page"]
        if pages:
            break
        assert time.monotonic() < end, "the browser has no page"
        await asyncio.sleep(0.05)
    page = Page(await websocket_connect(pages[0]["webSocketDebuggerUrl"], max_message_size=2**26))
    await page.tell("Runtime.enable")
    return page


async def drive(page: Page, picture: pathlib.Path) -> None:
    await page.until("document.readyState == 'complete' && /running/.test(document.getElementById('clock').textContent)")
    status = "document.getElementById('status').textContent"
    progress = "document.getElementById('progress').value"
    await page.click("download")
    await page.until(f"{progress} > 0.1")
    # Typing meanwhile: Tornado answers, and the download goes on.
    before = await page.value(progress)
    await page.click("typed")
    for character in "guest":
        await page.key(character)
    await page.until("document.getElementById('echo').textContent == '5 characters reached Tornado.'")
    await page.until(f"{progress} > {before}")
    await page.until(f"{progress} > 0.5 || !/MiB/.test({status})")
    picture.write_bytes(base64.b64decode((await page.tell("Page.captureScreenshot"))["data"]))
    await page.click("cancel")
    await page.until(f"{status} == 'Cancelled.'")
    stopped = await page.value(progress)
    clock = await page.value("document.getElementById('clock').textContent")
    await page.until(f"document.getElementById('clock').textContent != {clock!r}")
    assert 0 < stopped < 1 and await page.value(progress) == stopped
    # Once more, to its end.
    await page.click("download")
    await page.until(f"{status} == 'Done: 24.0 MiB.'")
    await page.until("/late/.test(document.getElementById('latency').textContent)")
    await page.click("quit")
    await page.until(f"{status} == 'The sample has ended.'")
    assert not page.errors


@pytest.fixture
def sample(tmp_path: pathlib.Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running sample, and its address, as it gives it to the user's browser."""
    told = tmp_path / "address"
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >"{told}.part" && mv "{told}.part" "{told}"\n')
    script.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "asyncio_guest.backends.tornado.sample"],
        env={**os.environ, "BROWSER": str(script)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        end = time.monotonic() + 60
        while not told.exists():
            assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
            time.sleep(0.02)
        yield process, told.read_text().strip()
    finally:
        process.kill()
        process.communicate()


def test_sample(sample: tuple[subprocess.Popen[str], str], tmp_path: pathlib.Path) -> None:
    process, address = sample
    profile = tmp_path / "profile"
    picture = tmp_path / "screenshot.png"
    assert BROWSER is not None
    browser = subprocess.Popen(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
         "--disable-dev-shm-usage", "--window-size=560,500", "--remote-debugging-port=0", f"--user-data-dir={profile}", address],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:

        async def main() -> None:
            await drive(await opened(profile, browser), picture)

        asyncio.run(main())
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert "Traceback" not in output and f"The sample is at {address}" in output
        assert picture.stat().st_size > 1000
    finally:
        browser.kill()
        browser.wait()
