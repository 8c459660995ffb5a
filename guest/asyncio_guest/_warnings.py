"""The warnings of the package."""

from __future__ import annotations


class AbandonedGuestWarning(RuntimeWarning):
    """A guest was still running when nothing could drive it any more.

    Its main task was cancelled and it was finished without its host, as far as it could be.
    """


class HostDiedWarning(RuntimeWarning):
    """The host's main loop ended, or its window was destroyed, before the guest was over.

    The guest was cancelled and finished on a main loop of its own within a bounded time.  Cancel
    the guest before the host goes (`Guest.cancel` in the close button's handler) and quit the
    host in ``done_callback``.
    """
