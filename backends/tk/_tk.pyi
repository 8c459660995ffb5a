from collections.abc import Sequence

from typing import Any

ops: Any
"""The capsule of the backend's ag_host_ops."""

def install_notifier(others: Sequence[int], /) -> tuple[int, str]: ...
def immortalize(obj: object, /) -> None: ...
