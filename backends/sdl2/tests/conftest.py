"""Each test of this folder runs with both pygames: Debian's, and pygame-ce in its environment."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", params=["pygame", "pygame-ce"])
def python(request: Any, environment_python: Callable[[str], Path]) -> str:
    """An interpreter with this pygame."""
    if request.param != "pygame":
        return str(environment_python(request.param))
    if importlib.util.find_spec("pygame") is None:
        pytest.skip("pygame is missing; on Debian: apt-get install python3-pygame")
    return sys.executable
