"""The backend ``poll``: a main loop that is nothing but ``poll(2)`` on the guest's descriptor.

It shows what a guest costs with no GUI in the way.  Its C code is in the core, because teardown, interpreter exit
and forked children need it; this is its face.
"""

from __future__ import annotations

from asyncio_guest._hosts import PollBackend

BACKEND = PollBackend()
