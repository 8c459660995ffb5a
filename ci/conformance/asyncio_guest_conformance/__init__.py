"""A conformance suite for asyncio event loops.

``pytest --pyargs asyncio_guest_conformance --contender module:factory`` runs it against the loop that
the factory makes; ``asyncio-guest-conformance`` is its own command.
"""

from __future__ import annotations


def main() -> int:
    """The console script."""
    from .harness.cli import main as cli  # type: ignore[import-not-found]

    return int(cli())
