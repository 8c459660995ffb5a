"""The process of a proof run: runs test modules while tracing which of the changed lines are executed.

``python -P proof_cell.py SPEC.json``: writes ``FILE<TAB>CODE<TAB>LINE`` as each line runs for the first time, so that
what ran before a hang counts.  Nothing may be imported before tracing begins but what the interpreter itself needs.
"""

from __future__ import annotations

import sys
import threading


def place(code) -> str:  # type: ignore[no-untyped-def]
    """A code object of a file: by its name, its first line and, as two lambdas may share that, the column of its code."""
    first = code.co_firstlineno
    columns = [begin for line, _, begin, end in code.co_positions() if line == first and begin is not None and end]
    return f"{code.co_qualname}:{first}:{min(columns, default=0)}"


class Tracer:
    """Notes the first execution of each wanted line of each code object."""

    def __init__(self, wanted: dict[str, set[tuple[str, int]]], found: int) -> None:
        self.left = {(file, *line) for file, lines in wanted.items() for line in lines}
        self.files = set(wanted)
        self.found = found
        self._traces: dict[object, object] = {}

    def trace_of(self, code):  # type: ignore[no-untyped-def]
        """What to call for the lines of a code object; None when none of them is wanted."""
        file, where = code.co_filename, place(code)
        wanted = {line for of, at, line in self.left if (of, at) == (file, where)}
        if not wanted:
            return None

        def trace(frame, event, arg):  # type: ignore[no-untyped-def]
            line = code.co_firstlineno if event == "call" else frame.f_lineno
            if event in ("call", "line") and line in wanted:
                wanted.discard(line)
                self.left.discard((file, where, line))
                import os

                os.write(self.found, f"{file}\t{where}\t{line}\n".encode())
            return trace

        return trace

    def __call__(self, frame, event, arg):  # type: ignore[no-untyped-def]
        code = frame.f_code
        if code.co_filename not in self.files:
            return None
        if code not in self._traces:
            self._traces[code] = self.trace_of(code)  # type: ignore[no-untyped-call]
        trace = self._traces[code]
        return None if trace is None else trace(frame, event, arg)  # type: ignore[operator]

    def begin(self) -> None:
        threading.settrace(self)
        sys.settrace(self)


def main(argv: list[str]) -> int:
    """Run what ``argv[0]`` specifies."""
    import json
    import os

    with open(argv[0]) as file:
        spec = json.load(file)
    found = os.open(spec["found"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    tracer = Tracer({name: {(at, line) for at, line in lines} for name, lines in spec["wanted"].items()}, found)
    early = sorted(name for name in sys.modules if name.partition(".")[0] == "asyncio")
    tracer.begin()
    for name in spec["imports"]:
        __import__(name)
    import hashlib
    import unittest

    loaded = {}
    for name in spec["imports"]:
        spec_of = sys.modules[name].__spec__
        assert spec_of is not None and spec_of.origin is not None
        loader = spec_of.loader
        loaded[spec_of.origin] = hashlib.sha256(loader.get_data(spec_of.origin)).hexdigest()  # type: ignore[union-attr]
    with open(spec["loaded"], "w") as file:
        json.dump({"loaded": loaded, "early": early}, file)

    class Result(unittest.TestResult):
        def startTest(self, test: unittest.TestCase) -> None:
            super().startTest(test)
            tracer.begin()  # a test may have put a tracer of its own in place

        def stopTest(self, test: unittest.TestCase) -> None:
            super().stopTest(test)
            if not tracer.left:
                self.stop()

    if spec["module"]:
        try:
            tests = unittest.defaultTestLoader.loadTestsFromName(spec["module"])
        except unittest.SkipTest:
            return 0
        tests.run(Result())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
