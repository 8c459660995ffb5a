from typing import Any

ops: Any
"""The capsule of the core's host of two callables, with a main loop."""
