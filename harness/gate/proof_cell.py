"""The process of a proof run: runs test modules while tracing which of the changed lines are executed.

``python -P proof_cell.py SPEC.json``: writes ``FILE<TAB>LINE`` as each line runs for the first time, so that
what ran before a hang counts.  Nothing may be imported before tracing begins but what the interpreter itself needs.
"""

from __future__ import annotations

import sys
import threading


class Tracer:
    """Notes the first execution of each wanted line."""

    def __init__(self, wanted: dict[str, set[int]], found: int) -> None:
        self.wanted = wanted
        self.left = {(file, line) for file, lines in wanted.items() for line in lines}
        self.found = found
        self._inside: dict[object, frozenset[int]] = {}

    def lines_of(self, code: object) -> frozenset[int]:
        """The wanted lines that a code object has."""
        lines = self._inside.get(code)
        if lines is None:
            own = {line for _, _, line in code.co_lines() if line is not None}  # type: ignore[attr-defined]
            lines = frozenset(own & self.wanted[code.co_filename])  # type: ignore[attr-defined]
            self._inside[code] = lines
        return lines

    def __call__(self, frame, event, arg):  # type: ignore[no-untyped-def]
        code = frame.f_code
        if code.co_filename not in self.wanted or not self.lines_of(code):
            return None
        return self.line

    def line(self, frame, event, arg):  # type: ignore[no-untyped-def]
        if event == "line":
            at = (frame.f_code.co_filename, frame.f_lineno)
            if at in self.left:
                self.left.discard(at)
                import os

                os.write(self.found, f"{at[0]}\t{at[1]}\n".encode())
        return self.line

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
    tracer = Tracer({name: set(lines) for name, lines in spec["wanted"].items()}, found)
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
