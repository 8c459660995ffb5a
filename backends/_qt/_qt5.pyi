from typing import Any

ops: Any
"""The capsule of the backend's ag_host_ops."""
qt_version: str
"""Of the Qt that the process has loaded."""
