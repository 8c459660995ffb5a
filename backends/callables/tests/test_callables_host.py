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


def test_the_end_of_a_guest_ends_its_own_run_only(run_program: Any) -> None:
    """A run that a callback has begun inside, and a second guest in that one, go on: the first guest's end ended the
    innermost run, and its own never."""
    out = run_program("""
        import asyncio
        import asyncio_guest
        from asyncio_guest.backends.callables.queue_loop import QueueLoop
        loop = QueueLoop()
        async def second():
            await asyncio.sleep(0.01)
            return "second"
        async def first():
            inside = asyncio.get_running_loop().create_future()
            loop.run_sync_soon_threadsafe(lambda: nested(inside))
            await inside
            return "first"
        def nested(inside):
            loop.run_sync_soon_threadsafe(lambda: inside.set_result(None))
            # Long after the first guest's end.
            loop.call_later(0.2, lambda: (print("first is over", asyncio_guest._core.current_guest() is None),
                                          print(asyncio_guest.run(second(), host=loop), loop.depth), loop.quit()))
            loop.run()
            print("nested ended", loop.depth)
        print(asyncio_guest.run(first(), host=loop), loop.depth)
    """)
    assert out.splitlines() == ["first is over True", "second 2", "nested ended 1", "first 0"]
