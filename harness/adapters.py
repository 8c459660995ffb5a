"""How a cell's process talks to its contender.  Imported in cells only."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from . import tree
from .contenders import UNIVERSAL, Contender

T = TypeVar("T")


class Missing(Exception):
    """The contender cannot run here; the message says what to install or to do."""


class Adapter(Protocol):
    """One contender in this process."""

    declares: dict[str, str]
    """Abilities or globs of case ids that the contender does without, each with the reason."""

    def open(self, needs: frozenset[str]) -> None:
        """Make the driver.  Raises Missing."""

    def abilities(self) -> frozenset[str]: ...

    @property
    def driver(self) -> Any: ...

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T: ...

    def new_loop(self) -> asyncio.AbstractEventLoop: ...

    def info(self) -> dict[str, Any]:
        """engine_ran, engine_reason, strategy, toolkit_version, counters: what is known."""

    def uninstall(self) -> None:
        """Undo what `new_loop` installed."""

    def close(self) -> None: ...


class _NoDriver:
    """What a contender without a host has for a driver."""

    abilities: frozenset[str] = frozenset()
    flood_kinds: tuple[str, ...] = ()

    def __init__(self, who: str) -> None:
        self.name = who

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise tree.scenarios("api").Unsupported("host")


def version_of(paths: tuple[str, ...]) -> str | None:
    """``module:attribute`` paths joined to a version, or None where one is missing."""
    parts = []
    for path in paths:
        module, _, attribute = path.partition(":")
        try:
            value = getattr(importlib.import_module(module), attribute)
            parts.append(str(value() if callable(value) else value))
        except Exception:  # a version is never worth a failing cell
            return None
    return ".".join(parts) or None


class Plain:
    """asyncio itself."""

    def __init__(self) -> None:
        self.declares: dict[str, str] = {}
        self.driver: Any = _NoDriver("plain")

    def open(self, needs: frozenset[str]) -> None:
        pass

    def abilities(self) -> frozenset[str]:
        return UNIVERSAL

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        with asyncio.Runner(debug=options.get("debug"), loop_factory=options.get("loop_factory")) as runner:
            return runner.run(main(*args))

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def info(self) -> dict[str, Any]:
        return {"engine_ran": None, "strategy": None, "toolkit_version": None}

    def uninstall(self) -> None:
        pass

    def close(self) -> None:
        pass


def load_driver_factory(host: str) -> Callable[..., Any] | None:
    """``make_driver`` of a backend: from the built package, else from the tree's folder; None if it has none."""
    package = host.replace("-", "_")
    try:
        return cast(
            "Callable[..., Any]", importlib.import_module(f"asyncio_guest.backends.{package}.driver").make_driver
        )
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("asyncio_guest"):
            raise Missing(f"the driver of {host} cannot be imported: {error}") from error
    path = tree.TOP / "backends" / package / "driver.py"
    if not tree.IN_TREE or not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"_{package}_driver", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise Missing(f"the driver of {host} cannot be imported: {error}") from error
    return cast("Callable[..., Any]", module.make_driver)


def make_driver(factory: Callable[..., Any], needs: frozenset[str]) -> Any:
    """Call a driver's factory, with the abilities that the case needs where it takes them."""
    try:
        takes = "needs" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        takes = False
    return factory(needs=needs) if takes else factory()


class Guest:
    """One of our guests."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.declares: dict[str, str] = {}
        self._driver: Any = None
        self._package: Any = None
        self._uninstall: Callable[[], Any] | None = None
        self._info: dict[str, Any] = {}

    def open(self, needs: frozenset[str]) -> None:
        assert self.contender.host is not None
        try:
            self._package = importlib.import_module("asyncio_guest")
        except ImportError as error:
            raise Missing(f"asyncio_guest cannot be imported ({error}); run make build") from error
        backend = self._backend(self.contender.host)
        missing = backend.missing()
        if missing:
            raise Missing(missing)
        for name, version in self.contender.gi:
            importlib.import_module("gi").require_version(name, version)
        for module in self.contender.before:
            importlib.import_module(module)
        factory = load_driver_factory(self.contender.host)
        self._driver = make_driver(factory, needs) if factory else _NoDriver(self.contender.host)

    @staticmethod
    def _backend(host: str) -> Any:
        try:
            return importlib.import_module(f"asyncio_guest.backends.{host.replace('-', '_')}").BACKEND
        except ImportError as error:
            import importlib.metadata

            for entry in importlib.metadata.entry_points(group="asyncio_guest.backends", name=host):
                loaded = entry.load()
                return getattr(loaded, "BACKEND", loaded)
            raise Missing(f"the backend {host} is not built: {error}") from error

    def abilities(self) -> frozenset[str]:
        return UNIVERSAL | frozenset(self._driver.abilities)

    @property
    def driver(self) -> Any:
        return self._driver

    def _host(self) -> Any:
        if isinstance(self._driver, _NoDriver):
            return self.contender.host
        return self._driver.toolkit()

    def _forced(self) -> dict[str, Any]:
        forced = {"strategy": self.contender.strategy, "engine": self.contender.engine}
        return {key: value for key, value in forced.items() if value is not None}

    def note(self, guest: Any) -> None:
        """Remember what a guest says about itself."""
        if guest is None:
            return
        info = getattr(guest, "info", None)
        for ours, theirs in (
            ("engine_ran", "engine"),
            ("engine_reason", "engine_reason"),
            ("strategy", "strategy"),
            ("selector_class", "selector_class"),
            ("notifier", "notifier"),
        ):
            for source in (info, guest):
                value = source.get(theirs) if isinstance(source, dict) else getattr(source, theirs, None)
                if value is not None:
                    self._info[ours] = str(value)
                    break
        counters = getattr(guest, "counters", None)
        if callable(counters):
            counters = counters()
        if counters is not None:
            self._info["counters"] = {str(k): v for k, v in dict(counters).items()}

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        async def cell_main(*args: Any) -> T:
            guest = self._package.current_guest()
            self.note(guest)
            try:
                return await main(*args)
            finally:
                self.note(guest)

        options = {k: v for k, v in options.items() if v is not None}
        result: T = self._package.run(cell_main(*args), host=self._host(), **self._forced(), **options)
        return result

    def new_loop(self) -> asyncio.AbstractEventLoop:
        if self._uninstall is None:
            self._uninstall = self._package.install(self._host(), **self._forced())
        return asyncio.new_event_loop()

    def info(self) -> dict[str, Any]:
        known = {"engine_ran": None, "strategy": None, **self._info}
        version = getattr(self._driver, "version", None) or version_of(self.contender.version)
        return {**known, "toolkit_version": version}

    def uninstall(self) -> None:
        if self._uninstall is not None:
            self._uninstall()
            self._uninstall = None

    def close(self) -> None:
        if self._driver is not None and not isinstance(self._driver, _NoDriver):
            self._driver.close()


class Factory:
    """Somebody's own loop: what ``module:factory`` returned."""

    def __init__(self, contender: Contender) -> None:
        module, _, factory = contender.name.partition(":")
        try:
            make = getattr(importlib.import_module(module), factory)
        except (ImportError, AttributeError) as error:
            raise Missing(f"{contender.name}: {error}") from error
        self._theirs = make()
        declares = getattr(self._theirs, "declares", {})
        if not isinstance(declares, dict):
            declares = dict.fromkeys(declares, "declared by the contender")
        self.declares: dict[str, str] = {str(k): str(v) for k, v in declares.items()}
        self.driver: Any = _NoDriver(contender.name)

    def open(self, needs: frozenset[str]) -> None:
        driver = getattr(self._theirs, "driver", None)
        if isinstance(driver, str):
            factory = load_driver_factory(driver)
            if factory is None:
                raise Missing(f"no driver is called {driver!r}")
            self.driver = make_driver(factory, needs)
        elif driver is not None:
            self.driver = make_driver(driver, needs) if callable(driver) else driver

    def abilities(self) -> frozenset[str]:
        return (UNIVERSAL | frozenset(self.driver.abilities)) - frozenset(self.declares)

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        options = {k: v for k, v in options.items() if v is not None}
        return cast("T", self._theirs.run(main(*args), **options))

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self._theirs.new_loop())

    def info(self) -> dict[str, Any]:
        info = {"engine_ran": None, "strategy": None, "toolkit_version": None}
        own = getattr(self._theirs, "info", None)
        return {**info, **(own() if callable(own) else own or {})}

    def uninstall(self) -> None:
        pass

    def close(self) -> None:
        if not isinstance(self.driver, _NoDriver):
            self.driver.close()
        close = getattr(self._theirs, "close", None)
        if callable(close):
            close()


def adapter(contender: Contender) -> Adapter:
    """The adapter of a contender.  Raises Missing."""
    if contender.kind == "plain":
        return Plain()
    if contender.kind == "guest":
        return Guest(contender)
    return Factory(contender)


