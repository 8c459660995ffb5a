"""Run the gate on the example patches and compare with the verdicts that they must get.

``check.py [NAME...] [--parts] [option of gate...]``: all, or those named. With ``--parts`` those that must be rejected
run the proof and the cases under plain asyncio only. Exit code 0 when each got its verdict.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
EXPECTED: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "neutral": ("ACCEPT", 0, ()),
    "swallowed-poll-error": ("REJECT", 3, ("E.05a-error-in-poll",)),
    "unbounded-ready-loop": ("REJECT", 3, ("C.02a-next-iteration",)),
}
"""Example -> verdict, exit code, and what has to be among its findings."""
PART = "--stages=proof,plain"


def main(argv: list[str]) -> int:
    """The exit code: how many examples did not get their verdict, at most 1."""
    names = [argument for argument in argv if argument in EXPECTED] or list(EXPECTED)
    options = [argument for argument in argv if argument not in (*EXPECTED, "--parts")]
    wrong = 0
    for name in names:
        word, code, cases = EXPECTED[name]
        own = [PART] if "--parts" in argv and word == "REJECT" else []
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ag-gate-example-") as folder:
            command = [
                sys.executable,
                "-m",
                "harness",
                "gate",
                *own,
                *options,
                f"--results={folder}",
                str(HERE / f"{name}.diff"),
            ]
            done = subprocess.run(
                command, cwd=TOP, stdin=subprocess.DEVNULL, check=False, env={**os.environ, "NO_COLOR": "1"}
            )
            result = Path(folder) / "gate.json"
            document = json.loads(result.read_text()) if result.exists() else {"verdict": None, "stages": []}
        found = {one["what"] for stage in document["stages"] for one in stage["findings"]}
        right = document["verdict"] == word and done.returncode == code and found >= set(cases)
        wrong += not right
        what = f"{document['verdict']} (exit code {done.returncode}); findings: {', '.join(sorted(found)) or 'none'}"
        wanted = f"{word} ({code})" + (f" by {', '.join(cases)}" if cases else "")
        print(
            f"{'ok   ' if right else 'WRONG'} {name}: {what}; to be {wanted}; {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
