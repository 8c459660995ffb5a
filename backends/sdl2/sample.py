"""A pygame window whose download, clock and latency check are asyncio tasks: ``python sample.py [--url URL]``."""

from __future__ import annotations

import asyncio
import contextlib

import pygame

import asyncio_guest
from asyncio_guest.backends import sample_tasks, sdl2

INK, GREY, PAPER, BLUE, WHITE = (36, 41, 48), (150, 156, 165), (242, 244, 247), (59, 130, 196), (255, 255, 255)
SIZE = (460, 280)
BAR = pygame.Rect(20, 60, 420, 18)
DOWNLOAD = pygame.Rect(230, 92, 110, 30)
CANCEL = pygame.Rect(350, 92, 90, 30)
ENTRY = pygame.Rect(20, 164, 420, 30)
BALL = pygame.Rect(20, 206, 420, 22)


class Sample:
    """A frame loop as in any game, and the guest that runs while it waits for the next frame."""

    def __init__(self, url: str | None, strategy: str | None = None) -> None:
        pygame.display.init()
        pygame.font.init()
        self.screen = pygame.display.set_mode(SIZE)
        pygame.display.set_caption("asyncio in pygame")
        pygame.key.set_repeat(400, 40)
        self.large, self.small = pygame.font.Font(None, 30), pygame.font.Font(None, 22)
        self.url = url
        self.task: asyncio.Task[None] | None = None
        self.fraction = 0.0
        self.status, self.text, self.running, self.late = "Nothing downloaded yet.", "", "", ""
        self.frames = 0
        self.clock = sdl2.Clock()  # instead of pygame.time.Clock: the guest runs in its tick
        self.guest = asyncio_guest.start(self.main(), host=pygame, strategy=strategy)

    def run(self) -> None:
        """The frame loop; the guest's end ends it."""
        while not self.guest.done:
            for event in pygame.event.get():
                self.handle(event)
            self.draw()
            pygame.display.flip()
            self.clock.tick(60)

    def handle(self, event: pygame.event.Event) -> None:
        if event.type == pygame.QUIT:
            self.guest.cancel()
        elif event.type == pygame.MOUSEBUTTONDOWN and DOWNLOAD.collidepoint(event.pos) and self.task is None:
            # A coroutine started from a button.
            self.task = self.guest.start_soon(self.downloading)
        elif event.type == pygame.MOUSEBUTTONDOWN and CANCEL.collidepoint(event.pos) and self.task is not None:
            self.task.cancel()
        elif event.type == pygame.KEYDOWN and event.key == pygame.K_BACKSPACE:
            self.text = self.text[:-1]
        elif event.type == pygame.TEXTINPUT:
            self.text += event.text

    def draw(self) -> None:
        self.frames += 1
        self.screen.fill(PAPER)
        self.write(self.large, "asyncio in a game's frame loop", (20, 20))
        pygame.draw.rect(self.screen, (214, 219, 226), BAR, border_radius=4)
        pygame.draw.rect(self.screen, BLUE, (*BAR.topleft, int(BAR.width * self.fraction), BAR.height), border_radius=4)
        self.write(self.small, self.status, (20, 100))
        self.button(DOWNLOAD, "Download", self.task is None)
        self.button(CANCEL, "Cancel", self.task is not None)
        self.write(self.small, "Type here meanwhile:", (20, 142))
        pygame.draw.rect(self.screen, WHITE, ENTRY, border_radius=4)
        pygame.draw.rect(self.screen, GREY, ENTRY, 1, border_radius=4)
        self.write(self.small, self.text + "|", (ENTRY.x + 8, ENTRY.y + 8))
        # What moves here moves smoothly, whatever the tasks do.
        way = 2 * (BALL.width - BALL.height)
        place = abs(self.frames * 3 % way - way // 2)
        pygame.draw.circle(self.screen, BLUE, (BALL.x + BALL.height // 2 + place, BALL.centery), BALL.height // 2)
        self.write(self.small, self.running, (20, 246))
        self.write(self.small, self.late, (250, 246))

    def write(self, font: pygame.font.Font, text: str, place: tuple[int, int]) -> None:
        self.screen.blit(font.render(text, True, INK), place)

    def button(self, box: pygame.Rect, text: str, enabled: bool) -> None:
        pygame.draw.rect(self.screen, BLUE if enabled else GREY, box, border_radius=4)
        picture = self.small.render(text, True, WHITE)
        self.screen.blit(picture, picture.get_rect(center=box.center))

    async def main(self) -> None:
        """Runs until the window is closed."""
        async with contextlib.AsyncExitStack() as stack:
            if self.url is None:
                self.url = await stack.enter_async_context(sample_tasks.local_server())
            await asyncio.gather(sample_tasks.count(self.show_clock), sample_tasks.latency(self.show_latency))

    async def downloading(self) -> None:
        assert self.url is not None
        try:
            size = await sample_tasks.download(self.url, self.show_progress)
            self.status = f"Done: {size / 2**20:.1f} MiB."
        except asyncio.CancelledError:
            self.status = "Cancelled."
            raise
        except OSError as exc:
            self.status = f"Failed: {exc}"
        finally:
            self.task = None

    def show_progress(self, received: int, total: int | None) -> None:
        self.fraction = received / total if total else 0
        of = f" of {total / 2**20:.1f}" if total else ""
        self.status = f"{received / 2**20:.1f}{of} MiB"

    def show_clock(self, tenths: int) -> None:
        self.running = f"Task running for {tenths / 10:.1f} s"

    def show_latency(self, ms: float) -> None:
        self.late = f"wakes at most {ms:.1f} ms late"


if __name__ == "__main__":
    args = sample_tasks.arguments("pygame")
    Sample(args.url, args.strategy).run()
    pygame.quit()
