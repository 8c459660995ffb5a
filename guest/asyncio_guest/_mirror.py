"""An epoll set that shows whether a poll(2) or select(2) selector has something ready.

Such a selector has no descriptor that a host could watch.  The mirror holds the descriptors
of the selector's map; the core watches the mirror and lets the loop ask its own selector.
"""

from __future__ import annotations

import errno
import select
import selectors
from typing import Any

_EXACT = tuple(
    getattr(selectors, name)
    for name in ("PollSelector", "SelectSelector", "DevpollSelector")
    if hasattr(selectors, name)
)


class Mirror:
    """Mirror `selector`, an instance of exactly PollSelector, SelectSelector or DevpollSelector.

    Kept current by instance attributes of the selector over ``register``, ``unregister`` and
    ``modify``, until `close`.  Host thread.  Raises TypeError for another selector, OSError
    where the set cannot be made.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        if type(selector) not in _EXACT:
            raise TypeError(f"a {type(selector).__name__} cannot be mirrored")
        self._selector: Any = selector
        self._set: select.epoll | None = select.epoll()
        self._events: dict[int, int] = {}
        self._regular: set[int] = set()
        try:
            for key in selector.get_map().values():
                self._sync(key.fd)
        except BaseException:
            self._set.close()
            raise
        self._selector.register = self._register
        self._selector.unregister = self._unregister
        self._selector.modify = self._modify

    @property
    def always_due(self) -> bool:
        """True while the map has a descriptor that epoll refuses (a regular file): it is always ready."""
        return bool(self._regular)

    @property
    def closed(self) -> bool:
        return self._set is None

    def fileno(self) -> int:
        """The descriptor of the set; readable when a mirrored descriptor is ready."""
        if self._set is None:
            raise ValueError("the mirror is closed")
        return self._set.fileno()

    def close(self) -> None:
        """Give the selector its own methods back and close the set.  Idempotent."""
        for name in ("register", "unregister", "modify"):
            method = self._selector.__dict__.get(name)
            if getattr(method, "__self__", None) is self:
                del self._selector.__dict__[name]
        self._events.clear()
        self._regular.clear()
        if self._set is not None:
            # Nothing is unregistered: a forked child shares the set with its parent.
            self._set.close()
            self._set = None

    def _register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key: selectors.SelectorKey = type(self._selector).register(self._selector, fileobj, events, data)
        self._sync(key.fd)
        return key

    def _unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key: selectors.SelectorKey = type(self._selector).unregister(self._selector, fileobj)
        self._sync(key.fd)
        return key

    def _modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        # The base class's modify() comes back through register() and unregister(); _sync() is idempotent.
        key: selectors.SelectorKey = type(self._selector).modify(self._selector, fileobj, events, data)
        self._sync(key.fd)
        return key

    def _sync(self, fd: int) -> None:
        """Bring the set's entry of `fd` in line with the selector's map."""
        if self._set is None:
            return
        key = self._selector._fd_to_key.get(fd)
        if key is None:
            self._regular.discard(fd)
            if self._events.pop(fd, None) is not None:
                try:
                    self._set.unregister(fd)
                except OSError:
                    pass  # closed before it was unregistered: the kernel dropped it
            return
        mask = 0
        if key.events & selectors.EVENT_READ:
            mask |= select.EPOLLIN
        if key.events & selectors.EVENT_WRITE:
            mask |= select.EPOLLOUT
        try:
            # Also when the mask is the same: the number may stand for another file by now, which poll(2)
            # would see and the set would not.
            try:
                self._set.register(fd, mask)
            except FileExistsError:
                self._set.modify(fd, mask)
        except OSError as exc:
            # EPERM: epoll does not take it, poll(2) calls it ready.  EBADF: closed already, poll(2) answers
            # POLLNVAL at once.  In both cases the selector never blocks.
            if exc.errno not in (errno.EPERM, errno.EBADF):
                raise
            self._regular.add(fd)
            return
        self._regular.discard(fd)
        self._events[fd] = mask


def mirror_of(selector: object) -> Mirror | None:
    """The mirror that hooks `selector`, or None."""
    method = getattr(selector, "__dict__", {}).get("register")
    mirror = getattr(method, "__self__", None)
    return mirror if isinstance(mirror, Mirror) else None
