"""A web page, served by Tornado, whose downloads and clock are asyncio tasks of a guest: ``python sample.py [--url URL]``.

Tornado's IOLoop is the host: its handlers answer the page, the guest's tasks tell the page what they do.
"""

from __future__ import annotations

import json
import pathlib
import webbrowser
from typing import Any

from tornado import httpserver, netutil, web, websocket
from tornado.ioloop import IOLoop

import asyncio_guest
from asyncio_guest.backends import sample_tasks

PAGE = pathlib.Path(__file__).with_name("sample.html")


class Sample:
    """The web server, and the guest that runs in its IOLoop."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        self.tasks = sample_tasks.Tasks(self, url)
        self.pages: set[Socket] = set()
        self.state: dict[str, Any] = {"status": "Nothing downloaded yet.", "progress": 0.0, "busy": False}
        self.loop = IOLoop.current()
        self.guest = asyncio_guest.start(
            self.tasks.main(), host=self.loop, strategy=strategy, done_callback=lambda outcome: self.loop.stop()
        )
        application = web.Application(
            [("/", web.RedirectHandler, {"url": "/sample.html"}), ("/live", Socket, {"sample": self}),
             ("/(sample.html)", web.StaticFileHandler, {"path": str(PAGE.parent)})]
        )
        # Other machines have no business here, and other pages of the browser neither: WebSockets check the origin.
        sockets = netutil.bind_sockets(0, "127.0.0.1")
        self.server = httpserver.HTTPServer(application)
        self.server.add_sockets(sockets)
        self.address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"

    def button(self, name: str) -> None:
        """A button of the page was pressed."""
        if name == "download":
            self.guest.start_soon(self.tasks.download)  # a coroutine started from a button
        elif name == "cancel":
            self.tasks.cancel()
        elif name == "quit":
            self.guest.cancel()  # and the guest's end stops the IOLoop

    def tell(self, **news: Any) -> None:
        """Send the pages what has changed."""
        self.state.update(news)
        for page in self.pages:
            page.write_message(json.dumps(news))

    # What the tasks show.

    def show_status(self, text: str) -> None:
        self.tell(status=text)

    def show_progress(self, fraction: float) -> None:
        if round(fraction, 2) != self.state["progress"]:
            self.tell(progress=round(fraction, 2))

    def show_busy(self, busy: bool) -> None:
        self.tell(busy=busy)

    def show_clock(self, text: str) -> None:
        self.tell(clock=text)

    def show_latency(self, text: str) -> None:
        self.tell(latency=text)


class Socket(websocket.WebSocketHandler):
    """One open page."""

    def initialize(self, sample: Sample) -> None:
        self.sample = sample

    def open(self, *args: str, **kwargs: str) -> None:
        self.sample.pages.add(self)
        self.write_message(json.dumps(self.sample.state))

    def on_message(self, message: str | bytes) -> None:
        said = json.loads(message)
        if "button" in said:
            self.sample.button(said["button"])
        elif "typed" in said:  # Tornado's own work, while the guest downloads
            self.write_message(json.dumps({"echo": f"{len(said['typed'])} characters reached Tornado."}))

    def on_close(self) -> None:
        self.sample.pages.discard(self)


def main() -> None:
    """Show the page in a browser, and serve it until it says Quit."""
    args = sample_tasks.arguments("Tornado")
    sample = Sample(args.url, args.strategy)
    print(f"The sample is at {sample.address} (Ctrl-C ends it).", flush=True)
    webbrowser.open(sample.address)
    sample.loop.start()


if __name__ == "__main__":
    main()
