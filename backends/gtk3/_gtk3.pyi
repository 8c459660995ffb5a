from typing import Any

ops: Any
"""The capsule of the backend's ag_host_ops."""

def owns_context() -> bool: ...
