"""Hosts by name or by toolkit object, and where backends are found.

A backend is a package ``asyncio_guest.backends.NAME`` or an object that a distribution publishes in
the entry-point group ``asyncio_guest.backends``; it has an attribute ``BACKEND``.  Finding
backends imports no toolkit.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from . import _core

ENTRY_POINTS = "asyncio_guest.backends"


class HostUnavailable(RuntimeError):
    """The host is known but cannot be used here; the message names the remedy."""


@dataclass(frozen=True)
class Host:
    """An opened host: what the core needs to attach a guest to it."""

    ops: Any
    """The backend's ``ag_host_ops`` in a capsule named ``asyncio_guest.host_ops``."""
    toolkit: object = None
    """The toolkit's object, given to ``ops->open`` as ``args->toolkit``."""
    info: Callable[[], Mapping[str, str]] | Mapping[str, str] | None = None
    """What the backend has to say about itself (Tk: its notifier); shown in `Guest.info`."""
    apart: bool = False
    """The host is itself asyncio: its callbacks run in a loop of its own, and the guest's loop is the running one only
    during turns."""

    def details(self) -> dict[str, str]:
        """The backend's facts about itself as of now."""
        info = self.info
        if info is None:
            return {}
        return dict(info() if callable(info) else info)


@runtime_checkable
class Backend(Protocol):
    """What ``BACKEND`` of a backend's package is."""

    @property
    def name(self) -> str:
        """The host's name."""

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies that can be forced; the first is the default."""

    def missing(self) -> str | None:
        """None if the host can be used, otherwise one sentence that says what to install."""

    def accepts(self, obj: object) -> bool:
        """Is `obj` an object of this toolkit?  Never imports the toolkit."""

    def open(self, obj: object | None) -> Host:
        """The host of `obj`; with None, of the toolkit's own main loop on this thread."""


@dataclass(frozen=True)
class PollBackend:
    """``poll``: the main loop that is nothing but poll(2).  Part of the core: teardown, interpreter exit
    and threads that a toolkit refuses need it."""

    name: str = "poll"
    strategies: tuple[str, ...] = ("watch", "waiter")

    def missing(self) -> str | None:
        """Never: it needs nothing but the core."""
        return None

    def accepts(self, obj: object) -> bool:
        """It has no objects."""
        return False

    def open(self, obj: object | None) -> Host:
        """A poll(2) loop on the calling thread."""
        return Host(_core.poll_ops)


@dataclass(frozen=True)
class _Broken:
    """A backend that was found but cannot be imported."""

    name: str
    error: BaseException
    strategies: tuple[str, ...] = ()

    def missing(self) -> str | None:
        return f"the backend {self.name!r} cannot be imported: {type(self.error).__name__}: {self.error}"

    def accepts(self, obj: object) -> bool:
        return False

    def open(self, obj: object | None) -> Host:
        raise HostUnavailable(str(self.missing())) from self.error


def _load(name: str, load: Callable[[], Any]) -> Backend:
    try:
        found = load()
        backend: Backend = getattr(found, "BACKEND", found)
        if not isinstance(backend, Backend):
            raise TypeError("it has no BACKEND with name, strategies, missing, accepts and open")
        return backend
    except Exception as exc:
        return _Broken(name, exc)


@functools.lru_cache(maxsize=None)
def hosts() -> Mapping[str, Backend]:
    """All backends by name: the installed subpackages, then what other distributions publish.

    A subpackage wins over an entry point of the same name.  A backend that cannot be imported is
    listed too, and says why it is missing.
    """
    found: dict[str, Backend] = {}
    package: Any
    try:
        package = importlib.import_module(f"{__package__}.backends")
    except ModuleNotFoundError:
        package = None
    if package is not None:
        for module in pkgutil.iter_modules(package.__path__):
            backend = _of_ours(module.name)
            if backend is not None:
                found[_public(module.name)] = backend
    from importlib import metadata  # slow to import; `backend_of` a name of ours does without

    for entry in metadata.entry_points(group=ENTRY_POINTS):
        if entry.name not in found:
            found[entry.name] = _load(entry.name, entry.load)
    found.setdefault("poll", PollBackend())
    return found


def _public(name: str) -> str:
    """The name of the host whose subpackage is called `name`: a package cannot be called pygame-ce."""
    return name.replace("_", "-")


@functools.lru_cache(maxsize=None)
def _of_ours(name: str) -> Backend | None:
    """The backend in the installed subpackage called `name`, without a look at all others.

    None where that is no backend: a module beside them, a folder that a cache has left, a package without a BACKEND.
    """
    if name.startswith("_") or not name.isidentifier():
        return None
    full = f"{__package__}.backends.{name}"
    try:
        spec = importlib.util.find_spec(full)
    except ModuleNotFoundError:
        return None
    # A folder without __init__.py has no origin.
    if spec is None or spec.submodule_search_locations is None or spec.origin is None:
        return None
    backend = _load(_public(name), functools.partial(importlib.import_module, full))
    package = sys.modules.get(full)  # None: its import failed, which is worth a word
    return backend if package is None or hasattr(package, "BACKEND") else None


def usable() -> dict[str, str | None]:
    """Each known host and what it misses (None: nothing)."""
    return {name: backend.missing() for name, backend in sorted(hosts().items())}


def backend_of(host: object) -> Backend:
    """The backend of a host's name or of a toolkit's object.

    Raises ValueError for an unknown name and TypeError for an object that no backend knows; both
    list what is known.
    """
    if isinstance(host, str):
        backend = _of_ours(host)
        if backend is not None:
            return backend
    known = hosts()
    if isinstance(host, str):
        backend = known.get(host)
        if backend is None:
            raise ValueError(f"unknown host {host!r}; known hosts: {', '.join(sorted(known))}")
        return backend
    for backend in known.values():
        if backend.accepts(host):
            return backend
    raise TypeError(
        f"no backend knows a host of type {type(host).__module__}.{type(host).__qualname__}; give one of the names "
        f"{', '.join(sorted(known))}, or an object of one of these toolkits"
    )


def open_backend(backend: Backend, obj: object | None) -> Host:
    """Open `backend`; raises HostUnavailable, naming what to install, if its toolkit is absent."""
    missing = backend.missing()
    if missing is not None:
        raise HostUnavailable(f"the host {backend.name!r} cannot be used: {missing}")
    return backend.open(obj)


def resolve(host: object) -> Host:
    """Open the host given as a name, a toolkit's object or an opened `Host`.

    Call it on the host's thread.  Raises ValueError, TypeError or HostUnavailable; the message names
    the remedy.
    """
    if isinstance(host, Host):
        return host
    backend = backend_of(host)
    return open_backend(backend, None if isinstance(host, str) else host)
