"""Programs as data, and the Python that they mean.

A program is JSON: ``{"virtual", "debug", "strands", "left", "end"}``.  A strand is a list of statements, a
statement a list whose first item says what it is.  Most are methods of `runtime.Strand`; those that have others
inside them are written out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

Statement = list[Any]


class _Writer:
    """Collects lines; every label and function in them has a number of its own."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0
        self.numbers = 0
        self.tasks = 0
        """How many functions of tasks the place is in."""

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def label(self) -> str:
        self.numbers += 1
        return f"k{self.numbers}"

    def inside(self, head: str, statements: list[Statement], after: str | None = None) -> None:
        """A block with statements in it."""
        self.line(head)
        self.depth += 1
        self.body(statements)
        if after is not None:
            self.line(after)
        elif not statements:
            self.line("pass")
        self.depth -= 1

    def block(self, head: str, *lines: str) -> None:
        self.line(head)
        for text in lines:
            self.line("    " + text)

    def function(self, statements: list[Statement]) -> str:
        """A coroutine function that is a task of its own; returns its name."""
        label = self.label()
        name = f"task_{label}"
        self.line(f"async def {name}():")
        self.depth += 1
        self.tasks += 1
        self.line(f"variable.set({label!r})")
        self.inside("try:", statements, f"me.log({label!r}, 'end')")
        self.block("except BaseException as error:", f"me.log({label!r}, told(error))", "raise")
        self.line(f"return {label!r}")
        self.depth -= 1
        self.tasks -= 1
        return name

    def spawned(self, bodies: list[list[Statement]]) -> str:
        """Functions for the bodies, and the expression that starts them as tasks."""
        return ", ".join([f"me.spawn({name}())" for name in [self.function(body) for body in bodies]])

    def body(self, statements: list[Statement]) -> None:
        for statement in statements:
            self.statement(*statement)

    def statement(self, kind: str, *args: Any) -> None:
        label = self.label()
        log = f"me.log({label!r}"
        if kind in OUTSIDE and not self.tasks:
            self.line("await me.settle()")
        if kind in ("lock", "sem"):
            self.line(f"async with me.{kind}:")
            self.depth += 1
            self.line(f"{log}, 'in')")
            self.body(args[0])
            self.depth -= 1
        elif kind == "guard":
            body, swallow, waits = args
            self.inside("try:", body)
            self.block("except asyncio.CancelledError:", f"{log}, 'cancelled')", *([] if swallow else ["raise"]))
            self.block("finally:", f"{log}, 'finally')", f"await me.yields({waits})")
        elif kind == "catch":
            self.inside("try:", args[0])
            self.block("except Boom as error:", f"{log}, repr(error))")
        elif kind in ("timeout", "wait_for"):
            delay, body = args
            limit = "NEVER" if delay is None else f"{delay} * me.unit"
            if kind == "timeout":
                self.line("try:")
                self.depth += 1
                self.inside(f"async with asyncio.timeout({limit}):", body, f"{log}, 'in time')")
                self.depth -= 1
            else:
                name = self.function(body)
                self.block("try:", f"{log}, await asyncio.wait_for(me.spawn({name}()), {limit}))")
            self.block("except TimeoutError:", f"{log}, 'too late')")
        elif kind == "shield":
            name = self.function(args[0])
            self.line(f"{log}, await asyncio.shield(me.spawn({name}())))")
        elif kind == "group":
            names = [self.function(body) for body in args[0]]
            self.line("try:")
            self.depth += 1
            self.block("async with asyncio.TaskGroup() as group:", *[f"group.create_task({name}())" for name in names],
                       f"{log}, 'started')")
            self.depth -= 1
            self.block("except* Boom as error:", f"{log}, told(error))")
            self.line(f"{log}, 'group ended')")
        elif kind == "gather":
            bodies, exceptions = args
            tasks = self.spawned(bodies)
            gathered = f"await asyncio.gather({tasks}, return_exceptions={exceptions})"
            self.block("try:", f"{log}, [str(r) for r in {gathered}])")
            self.block("except Boom as error:", f"{log}, repr(error))")
        elif kind == "waits":
            bodies, when = args
            tasks = self.spawned(bodies)
            self.line(f"done, pending = await asyncio.wait([{tasks}], return_when={when!r})")
            self.line(f"{log}, [sorted(map(ended, done)), len(pending)])")
        elif kind == "completed":
            tasks = self.spawned(args[0])
            self.line(f"for each in asyncio.as_completed([{tasks}]):")
            self.depth += 1
            self.block("try:", f"{log}, await each)")
            self.block("except Boom as error:", f"{log}, repr(error))")
            self.depth -= 1
        elif kind == "tasks":
            bodies, pokes = args
            for name in [self.function(body) for body in bodies]:
                self.line(f"me.kid({name}())")
            for via, ms, action, number in pokes:
                self.line(f"await me.outside({via!r}, {ms}, {action!r}, {number}, {self.label()!r})")
            self.line("await me.finish()")
        else:
            self.simple(kind, label, *args)

    def simple(self, kind: str, label: str, *args: Any) -> None:
        """A statement of one line."""
        log = f"me.log({label!r}"
        one = {
            "log": f"{log}, variable.get())",
            "wait": f"{log}, await me.event.wait())",
            "set": "me.event.set()",
            "clear": "me.event.clear()",
            "put": f"await me.queue.put({label!r})",
            "get": f"{log}, await me.queue.get())",
            "barrier": f"{log}, await me.barrier.wait())",
            "raise": f"raise me.boom({label!r})",
            "self_cancel": f"{log}, asyncio.current_task().cancel())",
            "uncancel": f"{log}, asyncio.current_task().uncancel())",
        }
        if kind in one:
            self.line(one[kind])
        elif kind == "condition":
            self.block("async with me.cond:", f"{log}, await me.cond.wait())")
        elif kind == "variable":
            self.line(f"variable.set({args[0]!r})")
        elif kind == "yield":
            self.line(f"await me.yields({args[0]})")
        elif kind == "nap":
            self.line(f"{log}, await asyncio.sleep({args[0]} * me.unit, 'awake'))")
        elif kind == "later":
            self.line(f"me.loop.call_later({args[0]} * me.unit, me.log, {label!r}, 'later')")
        elif kind in ("soon", "raise_soon", "cancel"):
            words = [repr(a) for a in args]
            words.insert(min(1, len(words)), repr(label))
            self.line(f"me.{kind}({', '.join(words)})")
        elif kind in METHODS:
            self.line(f"await me.{kind}({', '.join([*map(repr, args), repr(label)])})")
        else:
            raise ValueError(f"a program has no statement {kind!r}")


METHODS = frozenset(
    "notify join future agen outside threadsafe executor stream server sock readers host_calls process timers "
    "race expire".split()
)
"""Statements that are awaited methods of a strand, called with their arguments and a label."""

OUTSIDE = METHODS - frozenset("notify join future agen outside".split()) | {"nap"}
"""Statements that wait for something outside the loop; before one a strand comes to rest (`outside` does so itself)."""


def _cancels_in_order(value: Any) -> bool:
    """Is there a group of several tasks in these statements?"""
    if not isinstance(value, list):
        return False
    return (value[:1] == ["group"] and len(value[1]) > 1) or any(map(_cancels_in_order, value))


def source(program: dict[str, Any]) -> str:
    """The text of ``main`` of a program.  Raises ValueError for what is no program."""
    writer = _Writer()
    writer.line("async def main(program):")
    writer.depth += 1
    writer.line("asyncio.get_running_loop().set_exception_handler(program.heard)")
    if any(map(_cancels_in_order, program["strands"])):
        writer.line("number_tasks()")
    names = []
    for number, strand in enumerate(program["strands"]):
        names.append(f"strand_{number}")
        writer.line("")
        writer.line(f"async def strand_{number}():")
        writer.depth += 1
        writer.line(f"me = program.strand('s{number}')")
        writer.body(strand)
        writer.line("me.log('end')")
        writer.depth -= 1
    writer.line("")
    if len(names) == 1:
        writer.line(f"await {names[0]}()")
    elif names:
        writer.line(f"await asyncio.gather({', '.join(f'{name}()' for name in names)})")
    for number, how in enumerate(program["left"]):
        writer.line(f"program.kept.append(asyncio.create_task(program.strand('left{number}').left({how!r})))")
    if program["left"]:
        writer.line("await asyncio.sleep(0)")
        writer.line("await asyncio.sleep(0)")
    ends = {
        "return": ["return 'result'"],
        "raise": ["raise Boom('main')"],
        "exit": ["raise SystemExit(3)"],
        "cancel": ["asyncio.current_task().cancel()", "await asyncio.sleep(0)"],
    }
    for text in ends[program["end"]]:
        writer.line(text)
    return "\n".join(writer.lines) + "\n"


def script(program: dict[str, Any], about: str) -> str:
    """A program that can be run by itself: under asyncio, and with ``--host HOST`` inside a host."""
    text = Path(__file__).with_name("runtime.py").read_text(encoding="utf-8")
    _, _, rest = text.partition('"""\n\nfrom __future__')
    about = about.replace("\\", "\\\\").replace('"""', "'''")
    options = f"virtual={program['virtual']!r}, debug={program['debug']!r}"
    return (
        f'"""{about}\n"""\n\nfrom __future__{rest}\n\n{source(program)}\n\n'
        "def asyncio_run(main, *args, **options):\n"
        "    with asyncio.Runner(**options) as runner:\n"
        "        return runner.run(main(*args))\n\n\n"
        "def guest_run(host):\n"
        "    import asyncio_guest\n\n"
        "    return lambda main, *args, **options: asyncio_guest.run(main(*args), host=host, **options)\n\n\n"
        'if __name__ == "__main__":\n'
        "    import importlib\n    import sys\n\n"
        '    if sys.argv[1:2] == ["--host"]:\n'
        '        driver = importlib.import_module(f"asyncio_guest.backends.{sys.argv[2]}.driver").make_driver()\n'
        "        run = guest_run(driver.toolkit())\n"
        "    else:\n        driver, run = None, asyncio_run\n"
        f"    for actor, event, data in play(main, run, driver, {options}):\n"
        '        print(actor, event, data if data is not None else "")\n'
    )


def compiled(program: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """The coroutine function ``main`` of a program; `namespace` is that of `runtime`."""
    scope = dict(namespace)
    exec(compile(source(program), "<program>", "exec", dont_inherit=True), scope)
    return scope["main"]
