from typing import Any

glib: Any
gtk3: Any
gtk4: Any
"""The capsules of the same ag_host_ops under each backend's name."""

def owns_context() -> bool: ...
