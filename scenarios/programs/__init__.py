"""Programs that are data: `source` says what they mean, `runtime` is what they run with, ``corpus/`` holds those that
showed a difference once.  They are made by ``harness fuzz``, and replayed by a case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import runtime, source

CORPUS = Path(__file__).with_name("corpus")


def load(path: Path) -> dict[str, Any]:
    """A program from its file: ``{"about", "program"}``.  Raises ValueError for what is no program."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        source.source(found["program"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path.name} is no program: {type(error).__name__}: {error}") from error
    return dict(found)


def corpus() -> dict[str, dict[str, Any]]:
    """The programs of ``corpus/`` by the stem of their file."""
    return {path.stem: load(path) for path in sorted(CORPUS.glob("*.json"))}


def play(program: dict[str, Any], run: Any, driver: Any = None) -> dict[str, list[Any]]:
    """Run a program by `run` and return what is compared of its events (`runtime.views`)."""
    main = source.compiled(program, vars(runtime))
    events = runtime.play(main, run, driver, virtual=program["virtual"], debug=program["debug"])
    found: dict[str, list[Any]] = json.loads(json.dumps(runtime.views(events, program["virtual"])))
    return found
