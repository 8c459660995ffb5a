"""The conformance cases: each module of this folder, imported, adds its own to `scenarios.api.CASES`.

The package imports none by itself: the process of a cell needs one of them, and the others would cost it half of its
start. `load` imports all.
"""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import every module of the folder, in the order of their names."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        importlib.import_module(f"{__name__}.{module.name}")
