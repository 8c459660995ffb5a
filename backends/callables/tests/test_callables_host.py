"""Guests of a main loop that is a queue."""

from __future__ import annotations

from typing import Any


def test_by_object_and_by_name(run_program: Any) -> None:
    out = run_program("""
        import asyncio
        import asyncio_guest
        from asyncio_guest.backends.callables.queue_loop import QueueLoop
        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(lambda: 7)
        loop = QueueLoop()
        asyncio_guest.start(main(), host=loop, done_callback=lambda outcome: (print(outcome.unwrap()), loop.quit()))
        loop.run()
        asyncio_guest.start_guest_run(
            main, run_sync_soon_threadsafe=loop.run_sync_soon_threadsafe,
            done_callback=lambda outcome: (print(outcome.unwrap()), loop.quit()))
        loop.run()
        print(asyncio_guest.run(main(), host=loop), asyncio_guest.run(main(), host="callables"))
    """)
    assert out.splitlines() == ["7", "7", "7 7"]


def test_nested_runs_end_one_by_one(run_program: Any) -> None:
    out = run_program("""
        from asyncio_guest.backends.callables.queue_loop import QueueLoop
        loop = QueueLoop()
        def outer():
            loop.call_later(0.01, lambda: loop.quit(1))
            loop.call_later(0.03, loop.quit)
            loop.run()
            print("inner", loop.depth)
        loop.run_sync_soon_threadsafe(outer)
        loop.call_idle(lambda: print("idle"))
        loop.run()
        print("outer", loop.depth)
    """)
    assert out.splitlines() == ["idle", "inner 1", "outer 0"]
