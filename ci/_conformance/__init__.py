"""The conformance harness and its cases, as installed with the package."""

from __future__ import annotations

import importlib.util
import sys

REQUIREMENTS = ("pytest", "rich", "jsonschema")
"""What the extra ``conformance`` installs."""


def main() -> int:
    """The console script ``asyncio-guest``; says what to install where the harness's requirements are missing."""
    if {"run", "suite", "bench"}.intersection(sys.argv[1:2]):
        missing = [name for name in REQUIREMENTS if importlib.util.find_spec(name) is None]
        if missing:
            print(
                f"asyncio-guest: the harness needs {', '.join(missing)}: pip install 'asyncio-guest[conformance]'",
                file=sys.stderr,
            )
            return 2
    from .harness.cli import main as cli  # type: ignore[import-not-found]

    return int(cli())
