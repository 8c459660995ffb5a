"""Group K: tasks, futures and cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

from ..api import CaseContext, case
from ..support import from_thread, iterations, listen, outcome, settle, socket_pair


@case(
    "K.01a-cancel-and-uncancel",
    "Requests for cancellation are counted, and uncancel takes one back.",
    rejects="a task of the bridge's own without counts",
)
async def cancel_and_uncancel(t: CaseContext) -> None:
    async def body() -> str:
        task = asyncio.current_task()
        assert task is not None
        for _ in range(2):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError as exc:
                t.log("cancelled", [list(exc.args), task.cancelling()])
                t.log("uncancel", task.uncancel())
        return "survived"

    task = asyncio.create_task(body())
    await iterations(2)
    t.log("cancel", [task.cancel("one"), task.cancel("two"), task.cancelling()])
    await iterations(3)
    t.log("cancel", [task.cancel("three"), task.cancelling()])
    t.log("result", await task)
    t.log("cancel when done", [task.cancel(), task.cancelling(), task.cancelled()])


@case(
    "K.01b-cancel-before-the-first-step",
    "A task cancelled before its first step never runs; one that cancels itself ends at its next await, or its end.",
    rejects="an eager first step",
)
async def cancel_before_first_step(t: CaseContext) -> None:
    async def body(name: str) -> str:
        t.log("ran", name)
        return name

    async def cancels_itself() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "finished"

    task = asyncio.create_task(body("never"))
    task.cancel()
    await asyncio.wait([task])
    t.log("before", outcome(task))
    task = asyncio.create_task(cancels_itself())
    await asyncio.wait([task])
    t.log("in the last step", outcome(task))

    async def cancels_itself_and_waits() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("self")
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as exc:
            t.log("at the next await", list(exc.args))
            raise

    task = asyncio.create_task(cancels_itself_and_waits())
    await asyncio.wait([task])
    t.log("itself", outcome(task))


@case(
    "K.01c-cancel-while-resuming",
    "A task cancelled between its future's result and its own resumption is cancelled; the result is lost to it alone.",
    rejects="a cancellation dropped because the future was done",
)
async def cancel_while_resuming(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def body() -> None:
        try:
            t.log("got", await future)
        except asyncio.CancelledError:
            t.log("cancelled although done", future.done())
            raise

    task = asyncio.create_task(body())
    await iterations(2)
    future.set_result("result")
    task.cancel()
    await asyncio.wait([task])
    t.log("task", outcome(task))
    t.log("future", outcome(future))


@case(
    "K.01d-cancelled-in-every-kind-of-wait",
    "Cancelling a task that waits for a socket, a lock, a queue, a timer, a task or a worker frees what it waited for.",
    rejects="a reader, a timer or a place in a queue left behind",
)
async def every_kind_of_wait(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    lock = asyncio.Lock()
    await lock.acquire()
    queue: asyncio.Queue[int] = asyncio.Queue()
    event = asyncio.Event()
    inner = asyncio.create_task(asyncio.sleep(3600))
    with socket_pair() as (a, b):
        waits: list[tuple[str, Any]] = [
            ("socket", loop.sock_recv(a, 10)),
            ("lock", lock.acquire()),
            ("queue", queue.get()),
            ("event", event.wait()),
            ("timer", asyncio.sleep(3600)),
            ("task", asyncio.wait_for(inner, 3600)),
        ]
        tasks = [(name, asyncio.create_task(wait)) for name, wait in waits]
        await iterations(3)
        for name, task in tasks:
            task.cancel(name)
        await asyncio.wait([task for _, task in tasks])
        for name, task in tasks:
            t.log(name, outcome(task))
        t.log("reader left", loop.remove_reader(a))
    lock.release()
    t.log("lock", await asyncio.wait_for(lock.acquire(), 60))
    queue.put_nowait(1)
    t.log("queue", await asyncio.wait_for(queue.get(), 60))
    t.log("inner", inner.cancelled())


@case(
    "K.02-cancel-from-a-host-callback",
    "A task cancelled by a host callback ends at once, though the loop was asleep.",
    needs="host",
    oracle="own",
    report="asyncio-glib#3",
    rejects="the reference bridge, which does not notice",
)
async def cancel_from_host(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    for i in range(3):
        task = asyncio.create_task(asyncio.sleep(3600))
        await iterations(2)
        started = loop.time()
        t.driver.call_from_host(task.cancel)
        await asyncio.wait([task])
        t.check(task.cancelled(), "the task was not cancelled")
        t.check(loop.time() - started < 1.0 * t.scale, "cancelled late", took=loop.time() - started)
        t.log("cancelled", i)


@case(
    "K.03a-shield",
    "A shielded task outlives its waiter's cancellation; cancelling the inner one cancels the shield.",
    rejects="a shield that passes the cancellation on",
)
async def shield(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    go = asyncio.Event()

    async def inner() -> str:
        await go.wait()
        return "inner's result"

    task = asyncio.create_task(inner())

    async def waiter() -> None:
        await asyncio.shield(task)

    waiting = asyncio.create_task(waiter())
    await iterations(2)
    waiting.cancel()
    await asyncio.wait([waiting])
    t.log("waiter", outcome(waiting))
    t.log("inner done", task.done())
    go.set()
    t.log("inner", await task)

    inner_future = loop.create_future()
    shielded = asyncio.shield(inner_future)
    inner_future.cancel()
    await asyncio.wait([shielded])
    t.log("shield of a cancelled one", outcome(shielded))


@case(
    "K.03b-shield-and-an-error-nobody-awaits",
    "An error of a shielded task whose waiter is gone goes to the exception handler, once.",
    rejects="an error lost behind a shield",
)
async def shield_error(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    heard = listen(loop)
    go = asyncio.Event()

    async def inner() -> None:
        await go.wait()
        raise LookupError("on purpose")

    outer = asyncio.shield(asyncio.create_task(inner()))
    await iterations(2)
    outer.cancel()
    await iterations(1)
    go.set()
    await iterations(4)
    del outer
    await settle()
    loop.set_exception_handler(None)
    t.log("heard", [str(context.get("exception")) for context in heard])


@case(
    "K.04a-gather",
    "`gather` keeps the order of its arguments, joins duplicates, and treats errors and cancellation as asyncio's.",
    rejects="results in order of completion",
)
async def gather(t: CaseContext) -> None:
    async def after(delay: float, value: Any) -> Any:
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            t.log("cancelled", value, actor=f"child {value}")
            raise
        if isinstance(value, BaseException):
            raise value
        return value

    same = asyncio.create_task(after(0.001, "same"))
    t.log("order", await asyncio.gather(after(0.004, "a"), after(0.001, "b"), same, same))
    t.log("none", await asyncio.gather())
    results = await asyncio.gather(after(0.001, LookupError("x")), after(0.002, "c"), return_exceptions=True)
    t.log("returned", [repr(result) for result in results])
    go = asyncio.Event()

    async def survives() -> str:
        await go.wait()
        return "survived"

    survivor = asyncio.create_task(survives())
    try:
        await asyncio.gather(after(0.001, LookupError("y")), survivor)
    except LookupError as exc:
        t.log("raised", [str(exc), survivor.done()])
    go.set()
    t.log("survivor", await survivor)
    children = [asyncio.create_task(after(3600, i)) for i in range(3)]
    gathered = asyncio.gather(*children)
    await iterations(2)
    gathered.cancel()
    await asyncio.wait([gathered])
    t.log("cancelled", [outcome(gathered), *(outcome(child) for child in children)])


@case(
    "K.04b-wait",
    "`wait` returns the done and the pending: for all, for the first, for the first error, at a timeout.",
    rejects="a wait that cancels what is pending, or returns at the first whatever it is asked to wait for",
)
async def wait(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    async def result(future: asyncio.Future[Any]) -> Any:
        return await future

    async def complete(futures: list[asyncio.Future[Any]], order: tuple[int, ...], failing: int | None) -> None:
        for i in order:
            if i == failing:
                futures[i].set_exception(LookupError(i))
            else:
                futures[i].set_result(i)
            await iterations(5)  # enough for a wait that is satisfied to return before the next one is done

    async def attempt(name: str, *order: int, failing: int | None = None, **options: Any) -> None:
        futures = [loop.create_future() for _ in range(3)]
        tasks = [asyncio.create_task(result(future)) for future in futures]
        await iterations(1)
        completing = asyncio.create_task(complete(futures, order, failing))
        done, pending = await asyncio.wait(tasks, **options)
        t.log(name, [[tasks.index(task) for task in tasks if task in group] for group in (done, pending)])
        await completing
        t.log("still pending", [tasks.index(task) for task in tasks if not task.done()])
        for future in futures:
            if not future.done():
                future.set_result("late")
        await asyncio.gather(*tasks, return_exceptions=True)
        t.log("in the end", [outcome(task) for task in tasks])

    await attempt("all", 0, 2, 1)
    await attempt("all, with an error", 0, 2, 1, failing=0)
    await attempt("first", 1, return_when=asyncio.FIRST_COMPLETED)
    await attempt("first error", 0, 2, failing=2, return_when=asyncio.FIRST_EXCEPTION)
    await attempt("no error", 2, 0, 1, return_when=asyncio.FIRST_EXCEPTION)
    await attempt("timeout", 2, timeout=0.005)
    await attempt("no time", 0, timeout=0)


@case(
    "K.04c-as-completed",
    "`as_completed` yields in the order of completion, and TimeoutError at its timeout.",
    rejects="a completion lost between two awaits",
)
async def as_completed(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(5)]

    def complete(order: list[int]) -> None:
        futures[order[0]].set_result(order[0])
        if order[1:]:
            loop.call_soon(complete, order[1:])

    loop.call_soon(complete, [3, 0, 4, 1, 2])
    t.log("order", [await each for each in asyncio.as_completed(futures)])
    pending = loop.create_future()
    try:
        for each in asyncio.as_completed([pending], timeout=0.003):
            await each
    except TimeoutError:
        t.log("timed out", pending.done())


@case(
    "K.05a-task-group",
    "A TaskGroup waits for all; one error cancels the siblings and comes out in an ExceptionGroup.",
    rejects="siblings left running, or a single error that comes out bare",
)
async def task_group(t: CaseContext) -> None:
    def group_of(exc: BaseException) -> list[Any]:
        # Not by `except*`, which puts a bare exception in a group of its own.
        return [type(exc).__name__, sorted(repr(e) for e in getattr(exc, "exceptions", ()))]

    async def child(name: str, delay: float, exc: Exception | None = None) -> str:
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            t.log("cancelled", actor=name)
            raise
        if exc:
            raise exc
        t.log("finished", actor=name)
        return name

    async with asyncio.TaskGroup() as group:
        first = group.create_task(child("first", 0.002))
        group.create_task(child("second", 0))
    t.log("result", first.result())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child("sibling", 3600))
            group.create_task(child("failing", 0, LookupError("one")))
            await asyncio.sleep(3600)
    except Exception as exc:
        t.log("group", group_of(exc))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child("both a", 0, LookupError("a")))
            group.create_task(child("both b", 0, KeyError("b")))
    except Exception as exc:
        t.log("both", group_of(exc))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child("sibling of the body", 3600))
            await iterations(2)
            raise ValueError("body")
    except Exception as exc:
        t.log("body", group_of(exc))


@case(
    "K.05b-task-group-cancelled",
    "A parent cancelled inside nested TaskGroups cancels every child and is itself cancelled, not an error.",
    rejects="a cancellation turned into an empty group of errors",
)
async def task_group_cancelled(t: CaseContext) -> None:
    async def leaf(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            t.log("ended", actor=name)

    async def parent() -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(leaf("outer child"))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(leaf("inner child"))
                await asyncio.sleep(3600)

    task = asyncio.create_task(parent())
    await iterations(3)
    task.cancel()
    await asyncio.wait([task])
    t.log("parent", [outcome(task), task.cancelling()])

    async def guarded() -> str:
        try:
            async with asyncio.timeout(0.004):
                async with asyncio.TaskGroup() as group:
                    group.create_task(leaf("under a timeout"))
                    await asyncio.shield(asyncio.sleep(0))
        except TimeoutError:
            return "timed out"
        return "not timed out"

    t.log("guarded", await guarded())

    async def error_while_cancelled() -> None:
        async def sour() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                raise LookupError("while cancelled")

        async with asyncio.TaskGroup() as group:
            group.create_task(sour())
            await asyncio.sleep(3600)

    task = asyncio.create_task(error_while_cancelled())
    await iterations(3)
    task.cancel()
    await asyncio.wait([task])
    exc = task.exception()
    t.log("error while cancelled", [type(exc).__name__, [repr(e) for e in getattr(exc, "exceptions", ())]])


@case(
    "K.06-eager-tasks",
    "With the eager task factory the first step runs at once, in the task's own name, and the rest as ever.",
    min_python=(3, 12),
    rejects="current_task wrong during an eager step",
)
async def eager_tasks(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]

    async def quick() -> str:
        task = asyncio.current_task()
        assert task is not None
        t.log("in", task.get_name())
        return "quick"

    async def slow() -> str:
        t.log("slow starts")
        await asyncio.sleep(0)
        t.log("slow goes on")
        return "slow"

    first = loop.create_task(quick(), name="eager one")
    t.log("done at once", first.done())
    second = loop.create_task(slow())
    t.log("done at once", second.done())
    t.log("results", [await first, await second])
    loop.set_task_factory(None)


@case(
    "K.07a-never-retrieved",
    "The exception of a task or future that nobody retrieves is reported when it goes, once; a retrieved one never.",
    rejects="errors swallowed, or told twice",
)
async def never_retrieved(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    heard = listen(loop)

    async def fails(name: str) -> None:
        raise LookupError(name)

    task = asyncio.create_task(fails("dropped task"))
    await iterations(2)
    del task
    future = loop.create_future()
    future.set_exception(KeyError("dropped future"))
    del future
    kept = asyncio.create_task(fails("retrieved"))
    await asyncio.wait([kept])
    kept.exception()
    del kept
    try:
        await asyncio.create_task(fails("awaited"))
    except LookupError:
        pass
    await settle()
    t.log("heard", [[context["message"], str(context.get("exception"))] for context in heard])
    loop.set_exception_handler(None)


@case(
    "K.07b-pending-task-destroyed",
    "A task that is destroyed while it is pending is reported, once.",
    rejects="a task kept alive, or lost without a word",
)
async def pending_destroyed(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    heard = listen(loop)

    async def waits(future: asyncio.Future[None]) -> None:
        await future

    future = loop.create_future()
    task = asyncio.create_task(waits(future))
    await iterations(2)
    del task, future
    await settle()
    loop.set_exception_handler(None)
    t.log("heard", [context["message"] for context in heard])


@case(
    "K.08a-base-exception-out-of-a-task",
    "A BaseException of one's own out of a task is its exception; SystemExit ends the run and comes out of it.",
    rejects="a SystemExit that wedges the loop",
)
def base_exception(t: CaseContext) -> None:
    class Base(BaseException):
        pass

    async def raises(exc: BaseException) -> None:
        await asyncio.sleep(0)
        raise exc

    async def own() -> None:
        task = asyncio.create_task(raises(Base("mine")))
        await asyncio.wait([task])
        t.log("own", repr(task.exception()))

    t.run(own)

    tasks: list[asyncio.Task[None]] = []

    async def leaves(exc: BaseException) -> None:
        task = asyncio.create_task(raises(exc))
        tasks.append(task)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            t.log("main cancelled", type(exc).__name__)
            raise
        finally:
            t.log("task", task.done())

    for exc in (SystemExit(5), SystemExit("words")):
        try:
            t.run(leaves, exc)
        except SystemExit as caught:
            t.log("out", [type(caught).__name__, caught.code, caught is exc])
            t.log("task's own", tasks[-1].exception() is exc)


@case(
    "K.08b-main-raises-base-exceptions",
    "SystemExit and KeyboardInterrupt out of the main task come out of the run, after the other tasks' clean-up.",
    rejects="a teardown skipped",
)
def main_raises(t: CaseContext) -> None:
    async def other() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            t.log("other cleaned up")

    async def main(exc: BaseException) -> None:
        task = asyncio.create_task(other())
        await iterations(2)
        del task
        raise exc

    for exc in (SystemExit(7), KeyboardInterrupt(), LookupError("ordinary"), asyncio.CancelledError()):
        try:
            t.run(main, exc)
        except BaseException as caught:
            t.log("out", [type(caught).__name__, list(map(str, caught.args))])


@case(
    "K.09a-current-task",
    "`current_task` is the task in its own steps, and None in callbacks, timers, readers and done callbacks.",
    rejects="a task left current by a bridge that steps tasks itself",
)
async def current_task(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()

    def name() -> str | None:
        task = asyncio.current_task()
        return task and task.get_name()

    async def body() -> None:
        t.log("body", name())
        await asyncio.sleep(0)
        t.log("body again", name())

    await asyncio.create_task(body(), name="the body")
    with socket_pair() as (a, b):
        read = loop.create_future()
        loop.call_soon(lambda: t.log("call_soon", name()))
        await iterations(2)
        loop.call_later(0, lambda: t.log("call_later", name()))
        await iterations(3)
        loop.call_soon_threadsafe(lambda: t.log("threadsafe", name()))
        await iterations(3)
        loop.add_reader(a, lambda: (t.log("reader", name()), loop.remove_reader(a), read.set_result(None)))
        b.send(b"x")
        await read
    task = asyncio.create_task(asyncio.sleep(0), name="finishing")
    task.add_done_callback(lambda _: t.log("done callback", name()))
    await task
    await iterations(2)
    t.log("running loop", asyncio.get_running_loop() is loop)


@case(
    "K.09b-all-tasks",
    "`all_tasks` has the tasks of its loop that are not done, and no others.",
    needs="threads",
    rejects="tasks of another loop, or none at all",
)
async def all_tasks(t: CaseContext) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[Any] = loop.create_future()

    async def other() -> None:
        elsewhere, stop = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.create_task(stop.wait(), name="another loop's")
        loop.call_soon_threadsafe(ready.set_result, lambda: elsewhere.call_soon_threadsafe(stop.set))
        await task
        names = sorted(task.get_name() for task in asyncio.all_tasks())
        t.log("the other loop's", [name for name in names if name.startswith("task ")], actor="other")

    def run_other() -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # nobody else's, whatever policy is set
            runner.run(other())

    thread = from_thread(run_other)
    end_other = await ready
    tasks = [asyncio.create_task(asyncio.sleep(3600), name=f"task {i}") for i in range(3)]
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    me = asyncio.current_task()
    t.log("all", sorted(task.get_name() for task in asyncio.all_tasks() if task is not me))
    t.log("me", me in asyncio.all_tasks())
    end_other()
    await loop.run_in_executor(None, thread.join)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    t.log("all", [task.get_name() for task in asyncio.all_tasks() if task is not me])


@case(
    "K.10a-cancellation-at-teardown",
    "At the end of the run the tasks left are cancelled, may still await, and are waited for; errors are reported.",
    rejects="tasks destroyed pending",
)
def cancellation_at_teardown(t: CaseContext) -> None:
    heard: list[dict[str, Any]] = []

    async def tidy() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.002)
            t.log("tidied up", asyncio.get_running_loop().is_running(), actor="tidy")

    async def stubborn() -> None:
        for i, delay in enumerate((3600, 0.003)):
            try:
                await asyncio.sleep(delay)
            except asyncio.CancelledError:
                t.log("cancelled", i, actor="stubborn")
        t.log("finished", actor="stubborn")

    async def sour() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise LookupError("at teardown")

    tasks: list[asyncio.Task[None]] = []

    async def main() -> str:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
        tasks.extend(asyncio.create_task(each()) for each in (tidy, stubborn, sour))
        await iterations(2)
        return "result"

    t.log("result", t.run(main))
    t.log("ends", [outcome(task) for task in tasks])
    # Who shut down (asyncio.run, a guest) is the rest of the message.
    t.log("heard", [[context["message"].partition(" during ")[0], str(context["exception"])] for context in heard])


@case(
    "K.10b-tasks-made-at-teardown",
    "A task made by another's clean-up during teardown does not hang the end of the run.",
    rejects="a teardown that runs for ever",
)
def tasks_made_at_teardown(t: CaseContext) -> None:
    async def extra() -> None:
        t.log("extra ran", actor="extra")

    async def maker() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.create_task(extra())
            t.log("maker done", actor="maker")

    async def main() -> int:
        task = asyncio.create_task(maker())
        await iterations(2)
        return task.done()

    t.log("result", t.run(main))


@case(
    "K.11-deep-and-wide",
    "Ten thousand tasks finish, and a chain of a thousand tasks that await each other unwinds.",
    rejects="one native object for each step",
)
async def deep_and_wide(t: CaseContext) -> None:
    async def leaf(i: int) -> int:
        await asyncio.sleep(0)
        return i

    t.log("wide", sum(await asyncio.gather(*(leaf(i) for i in range(10_000)))))

    async def link(n: int) -> int:
        return 0 if n == 0 else 1 + await asyncio.create_task(link(n - 1))

    t.log("deep", await link(1000))
