"""The conformance cases; importing this package fills `scenarios.api.CASES`.

Every module of the folder is imported, in the order of their names.
"""

from __future__ import annotations

import importlib
import pkgutil

for _module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
    importlib.import_module(f"{__name__}.{_module.name}")
