"""The conformance harness and its cases, as installed with the package."""

from __future__ import annotations

import sys


def main() -> int:
    """The console script ``asyncio-guest``; says what to install where the harness's requirements are missing."""
    try:
        from .harness.cli import main as cli  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("asyncio_guest"):
            raise
        print(
            f"asyncio-guest: the harness needs {error.name}: pip install 'asyncio-guest[conformance]'", file=sys.stderr
        )
        return 2
    return int(cli())
