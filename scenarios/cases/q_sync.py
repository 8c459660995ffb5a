"""Group Q: locks, queues, events, barriers, conditions, semaphores."""

from __future__ import annotations

import asyncio
from typing import Any

from ..api import CaseContext, case
from ..support import iterations, outcome


@case(
    "Q.01-locks",
    "A lock goes to its waiters in their order, over cancelled ones, and refuses a release too many.",
    rejects="wake-ups in another order than the waits",
)
async def locks(t: CaseContext) -> None:
    lock = asyncio.Lock()

    async def worker(i: int) -> None:
        async with lock:
            t.log("holds", i)
            await asyncio.sleep(0)
            t.log("lets go", i)

    await lock.acquire()
    tasks = [asyncio.create_task(worker(i)) for i in range(6)]
    await iterations(2)
    tasks[0].cancel()
    tasks[3].cancel()
    lock.release()
    t.log("locked", lock.locked())
    await asyncio.wait(tasks)
    t.log("ends", [outcome(task) for task in tasks])
    try:
        lock.release()
    except RuntimeError as exc:
        t.log("refused", str(exc))
    await lock.acquire()
    heir = asyncio.create_task(worker(10))
    next_one = asyncio.create_task(worker(11))
    await iterations(2)
    lock.release()
    heir.cancel()
    await asyncio.wait([heir, next_one])
    t.log("ends", [outcome(heir), outcome(next_one)])


@case(
    "Q.02-queues",
    "Queues keep their order and their bounds, wake getters and putters in turn, and `join` waits for task_done.",
    rejects="a getter woken twice for one item",
)
async def queues(t: CaseContext) -> None:
    async def get(name: str, queue: asyncio.Queue[str]) -> None:
        t.log("one for", [name, await queue.get()])

    async def put(name: str, queue: asyncio.Queue[str]) -> None:
        await queue.put(name)
        t.log("room for", name)

    # One at a time: who is woken for nothing waits again, but behind the others.
    line: asyncio.Queue[str] = asyncio.Queue(1)
    getters = [asyncio.create_task(get(name, line)) for name in "abc"]
    await iterations(2)
    for item in "xyz":
        line.put_nowait(item)
        await iterations(4)
    await asyncio.wait(getters)
    line.put_nowait("full")
    putters = [asyncio.create_task(put(name, line)) for name in "abc"]
    await iterations(2)
    for _ in putters:
        t.log("makes room", line.get_nowait())
        await iterations(4)
    await asyncio.wait(putters)

    for kind in (asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue):
        queue: asyncio.Queue[int] = kind(maxsize=3)

        async def producer(queue: asyncio.Queue[int] = queue) -> None:
            for i in (5, 3, 8, 1, 9, 2):
                await queue.put(i)
                t.log("put", [i, queue.qsize()])

        async def consumer(name: str, queue: asyncio.Queue[int] = queue) -> None:
            while True:
                item = await queue.get()
                t.log("got", [name, item])
                await asyncio.sleep(0)
                queue.task_done()

        consumers = [asyncio.create_task(consumer(name)) for name in "ab"]
        await iterations(1)
        await producer()
        await queue.join()
        t.log("joined", [kind.__name__, queue.empty()])
        for task in consumers:
            task.cancel()
        await asyncio.wait(consumers)
    queue = asyncio.Queue(1)
    for name, act in (
        ("empty", queue.get_nowait),
        ("put", lambda: queue.put_nowait(1)),
        ("full", lambda: queue.put_nowait(2)),
    ):
        try:
            t.log(name, act())
        except (asyncio.QueueEmpty, asyncio.QueueFull) as exc:
            t.log(name, type(exc).__name__)
    try:
        queue.task_done()
        queue.task_done()
    except ValueError as exc:
        t.log("refused", str(exc))


@case(
    "Q.03-events",
    "An event lets all its waiters go, in their order, and none once it is cleared.",
    rejects="a waiter that comes too late and is woken all the same",
)
async def events(t: CaseContext) -> None:
    event = asyncio.Event()

    async def waiter(i: int) -> None:
        await event.wait()
        t.log("woke", [i, event.is_set()])

    tasks = [asyncio.create_task(waiter(i)) for i in range(4)]
    await iterations(2)
    event.set()
    event.clear()
    late = asyncio.create_task(waiter(99))
    await asyncio.wait(tasks)
    await iterations(2)
    t.log("late one done", late.done())
    event.set()
    await late
    t.log("at once", await event.wait())


@case(
    "Q.04-barriers",
    "A barrier lets its parties go together, can be used again, and breaks for all when it is aborted or reset.",
    rejects="a party left behind",
)
async def barriers(t: CaseContext) -> None:
    barrier = asyncio.Barrier(3)

    async def party(i: int) -> Any:
        try:
            position = await barrier.wait()
            t.log("passed", actor=f"party {i}")
            return position
        except asyncio.BrokenBarrierError:
            return "broken"

    for _ in range(2):
        t.log("positions", sorted(await asyncio.gather(*(party(i) for i in range(3)))))
    tasks = [asyncio.create_task(party(i)) for i in range(2)]
    await iterations(2)
    t.log("waiting", barrier.n_waiting)
    await barrier.reset()
    t.log("after reset", [await task for task in tasks])
    tasks = [asyncio.create_task(party(i)) for i in range(2)]
    await iterations(2)
    await barrier.abort()
    t.log("after abort", [await task for task in tasks])
    t.log("broken", [barrier.broken, await party(9)])


@case(
    "Q.05-conditions",
    "`notify` wakes in the order of the waits, `notify_all` all; a cancelled waiter has the lock again when it leaves.",
    rejects="a notification lost to a cancelled waiter",
)
async def conditions(t: CaseContext) -> None:
    condition = asyncio.Condition()

    async def waiter(i: int) -> None:
        async with condition:
            try:
                await condition.wait()
            except asyncio.CancelledError:
                t.log("cancelled, holds the lock", [i, condition.locked()])
                raise
            t.log("woke", i)

    tasks = [asyncio.create_task(waiter(i)) for i in range(6)]
    await iterations(3)
    async with condition:
        condition.notify(2)
    await iterations(6)
    tasks[2].cancel()
    await iterations(4)
    async with condition:
        condition.notify_all()
    await asyncio.wait(tasks)
    t.log("ends", [outcome(task) for task in tasks])
    for name in ("cancelled, then notified", "notified, then cancelled"):
        tasks = [asyncio.create_task(waiter(i)) for i in (10, 11, 12)]
        await iterations(3)
        async with condition:
            if name.startswith("cancelled"):
                tasks[0].cancel()
                condition.notify()
            else:  # passed on to the next one in newer versions
                condition.notify()
                tasks[0].cancel()
        await iterations(6)
        t.log(name, [task.done() for task in tasks])
        async with condition:
            condition.notify_all()
        await asyncio.wait(tasks)
        t.log("ends", [outcome(task) for task in tasks])
    state: list[int] = []

    async def until() -> str:
        async with condition:
            await condition.wait_for(lambda: len(state) >= 2)
            return "enough"

    task = asyncio.create_task(until())
    for i in range(2):
        await iterations(2)
        async with condition:
            state.append(i)
            condition.notify()
        t.log("enough", task.done())
    t.log("wait_for", await task)
    try:
        condition.notify()
    except RuntimeError as exc:
        t.log("refused", str(exc))


@case(
    "Q.06-semaphores",
    "A semaphore lets in no more than its number, in order; a bounded one refuses a release too many.",
    rejects="a newcomer let in before those who wait",
)
async def semaphores(t: CaseContext) -> None:
    semaphore = asyncio.Semaphore(2)
    inside = most = 0

    async def worker(i: int) -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            t.log("in", i)
            await iterations(1 + i % 3)
            inside -= 1

    tasks = [asyncio.create_task(worker(i)) for i in range(8)]
    await iterations(2)
    tasks[4].cancel()
    await asyncio.wait(tasks)
    t.log("most inside", most)
    t.log("ends", [outcome(task) for task in tasks])
    semaphore = asyncio.Semaphore(1)
    await semaphore.acquire()
    tasks = [asyncio.create_task(worker(i)) for i in (10, 11)]
    await iterations(2)
    semaphore.release()
    async with semaphore:  # the one who is woken has not run yet
        t.log("newcomer in", [task.done() for task in tasks])
    await asyncio.wait(tasks)
    bounded = asyncio.BoundedSemaphore(1)
    await bounded.acquire()
    bounded.release()
    try:
        bounded.release()
    except ValueError as exc:
        t.log("refused", str(exc))


@case(
    "Q.07-bound-to-one-loop",
    "A primitive that has waited in one loop refuses to wait in another.",
    rejects="primitives that silently belong to no loop",
)
def bound_to_one_loop(t: CaseContext) -> None:
    kept: dict[str, Any] = {}

    async def first() -> None:
        kept["lock"] = lock = asyncio.Lock()
        await lock.acquire()
        task = asyncio.create_task(lock.acquire())
        await iterations(2)
        task.cancel()
        await asyncio.wait([task])

    async def second() -> None:
        try:
            await asyncio.wait_for(kept["lock"].acquire(), 5)
        except RuntimeError as exc:
            t.log("refused", str(exc).partition(" is bound")[2])

    t.run(first)
    t.run(second)
