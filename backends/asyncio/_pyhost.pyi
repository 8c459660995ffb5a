from typing import Any

asyncio_ops: Any
"""The capsule of the ops of a host that is asyncio."""
tornado_ops: Any
"""The same under the name of Tornado."""
