"""How a cell's process talks to its contender.  Imported in cells only."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from . import tree
from .contenders import UNIVERSAL, Contender

T = TypeVar("T")
WINDOW = frozenset({"window", "paint", "input"})
"""Abilities of a driver that has opened a window."""
OPTIONAL = {"start_api": "start", "start_guest_run": "start_guest_run", "modal_api": "modal", "counters": "counters"}
"""Abilities of a contender beyond ``run`` and ``new_loop``, and the method that each is."""


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

    def start(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, done: Any, **options: Any) -> Any: ...

    def start_guest_run(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Any: ...

    async def modal(self, fn: Callable[..., T], *args: Any) -> T: ...

    def counters(self) -> dict[str, int]: ...

    def info(self) -> dict[str, Any]:
        """engine_ran, engine_reason, strategy, toolkit_version, counters: what is known."""

    def uninstall(self) -> None:
        """Undo what `new_loop` installed, and let go of the guests that ended."""

    def close(self) -> None: ...


class _NoDriver:
    """What a contender without a host has for a driver."""

    abilities: frozenset[str] = frozenset()
    flood_kinds: tuple[str, ...] = ()
    closed_fds: frozenset[int] = frozenset()

    def __init__(self, who: str) -> None:
        self.name = who

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise tree.scenarios("api").Unsupported("host")


class _NoApi:
    """The abilities beyond `run` and `new_loop`, for a contender that has none of them."""

    def start(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, done: Any, **options: Any) -> Any:
        raise tree.scenarios("api").Unsupported("start_api")

    def start_guest_run(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Any:
        raise tree.scenarios("api").Unsupported("start_guest_run")

    async def modal(self, fn: Callable[..., T], *args: Any) -> T:
        raise tree.scenarios("api").Unsupported("modal_api")

    def counters(self) -> dict[str, int]:
        raise tree.scenarios("api").Unsupported("counters")

    def uninstall(self) -> None:
        pass


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


def _distribution(name: str) -> str:
    """The version of a distribution that a peer is made of."""
    from importlib import metadata  # slow to import, and no guest's cell needs it

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"


class Plain(_NoApi):
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

    def close(self) -> None:
        pass


def load_driver_factory(host: str) -> Callable[..., Any] | None:
    """``make_driver`` of a backend: from the built package, else from the tree's folder; None if it has none."""
    package = host.replace("-", "_")
    for parent in (*tree.drivers(), "asyncio_guest.backends"):
        name = f"{parent}.{package}.driver"
        try:
            return cast("Callable[..., Any]", importlib.import_module(name).make_driver)
        except ModuleNotFoundError as error:
            if error.name is None or not (name + ".").startswith(error.name + "."):
                raise Missing(f"the driver of {host} cannot be imported: {error}") from error
        except ImportError as error:
            raise Missing(f"the driver of {host} cannot be imported: {error}") from error
    return None


def make_driver(factory: Callable[..., Any], needs: frozenset[str]) -> Any:
    """Call a driver's factory; with a window where the case needs one."""
    try:
        takes = "window" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        takes = False
    return factory(window=bool(needs & WINDOW)) if takes else factory()


class Guest:
    """One of our guests."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.declares: dict[str, str] = {}
        self._driver: Any = None
        self._package: Any = None
        self._core: Any = None
        self._uninstall: Callable[[], Any] | None = None
        self._info: dict[str, Any] = {}

    def install_for_process(self) -> None:
        """Make every loop of this process a guest of the host's, found by its name.  Raises Missing."""
        self._prepare()
        self._uninstall = self._package.install(self.contender.host, **self._forced())

    def open(self, needs: frozenset[str]) -> None:
        self._prepare()
        assert self.contender.host is not None
        factory = load_driver_factory(self.contender.host)
        self._driver = make_driver(factory, needs) if factory else _NoDriver(self.contender.host)

    def _prepare(self) -> None:
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

    @staticmethod
    def _backend(host: str) -> Any:
        try:
            return importlib.import_module(f"asyncio_guest.backends.{host.replace('-', '_')}").BACKEND
        except ImportError as error:
            from importlib import metadata

            for entry in metadata.entry_points(group="asyncio_guest.backends", name=host):
                loaded = entry.load()
                return getattr(loaded, "BACKEND", loaded)
            raise Missing(f"the backend {host} is not built: {error}") from error

    def abilities(self) -> frozenset[str]:
        return UNIVERSAL | frozenset(OPTIONAL) | frozenset(self._driver.abilities)

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

    def note(self) -> None:
        """Remember the guest of this thread, and what it says about itself."""
        core = self._package._core.current_guest()
        if core is not None:
            self._core = core
        core = self._core
        if core is None:
            return
        self._info.update(
            engine_ran=core.engine,
            engine_reason=core.engine_reason,
            strategy=core.strategy,
            selector_class=core.selector_class,
            counters=dict(core.counters()),
        )

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        async def cell_main(*args: Any) -> T:
            self.note()
            return await main(*args)

        options = {k: v for k, v in options.items() if v is not None}
        result: T = self._package.run(cell_main(*args), host=self._host(), **self._forced(), **options)
        return result

    def start(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, done: Any, **options: Any) -> Any:
        options = {**self._forced(), **options}
        guest = self._package.start(main(*args), host=self._host(), done_callback=done, **options)
        self.note()
        return guest

    def start_guest_run(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Any:
        if self.contender.engine is not None:  # its host has strategies of its own
            options = {"engine": self.contender.engine, **options}
        guest = self._package.start_guest_run(main, *args, **options)
        self.note()
        return guest

    async def modal(self, fn: Callable[..., T], *args: Any) -> T:
        return cast("T", await self._package.modal(fn, *args))

    def counters(self) -> dict[str, int]:
        self.note()
        if self._core is None:
            raise RuntimeError("no guest has run on this thread")
        return dict(self._core.counters())

    def new_loop(self) -> asyncio.AbstractEventLoop:
        if self._uninstall is None:
            self._uninstall = self._package.install(self._host(), **self._forced())
        return asyncio.new_event_loop()

    def info(self) -> dict[str, Any]:
        if self._core is not None:
            self.note()
        known: dict[str, Any] = {"engine_ran": None, "strategy": None, **self._info}
        for key, value in self._details().items():
            known.setdefault(key, value)
        version = getattr(self._driver, "version", None) or version_of(self.contender.version)
        return {**known, "toolkit_version": version}

    def _details(self) -> dict[str, str]:
        """What the backend says about itself (Tk: its notifier)."""
        try:
            return dict(self._package.resolve(self._host()).details())
        except Exception:  # a remark is never worth a failing cell
            return {}

    def uninstall(self) -> None:
        if self._uninstall is not None:
            self._uninstall()
            self._uninstall = None
        self._core = None

    def close(self) -> None:
        if self._driver is not None and not isinstance(self._driver, _NoDriver):
            self._driver.close()


class _OnlyLoops:
    """A contender of which nothing is known but what makes its loops, as in ``uvloop:new_event_loop``."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.new_loop = new_loop


class Factory(_NoApi):
    """Somebody's own loop: what ``module:factory`` returned, a contender, or a loop if it makes loops itself."""

    def __init__(self, contender: Contender) -> None:
        assert contender.factory is not None
        self.contender = contender
        module, _, factory = contender.factory.partition(":")
        for name, version in contender.gi:
            importlib.import_module("gi").require_version(name, version)
        try:
            make = getattr(importlib.import_module(module), factory)
        except (ImportError, AttributeError) as error:
            raise Missing(f"{contender.name}: {error}") from error
        self._theirs = make()
        if isinstance(self._theirs, asyncio.AbstractEventLoop):
            self._theirs.close()
            self._theirs = _OnlyLoops(make)
        if not (hasattr(self._theirs, "new_loop") or hasattr(self._theirs, "run")):
            raise Missing(
                f"{contender.name} returns {self._theirs!r}, which has neither run() nor new_loop(): it has to return a "
                "contender, or a loop"
            )
        declares = getattr(self._theirs, "declares", {})
        if not isinstance(declares, dict):
            declares = dict.fromkeys(declares, "declared by the contender")
        self.declares: dict[str, str] = {str(k): str(v) for k, v in declares.items()}
        self.driver: Any = _NoDriver(contender.name)

    def open(self, needs: frozenset[str]) -> None:
        driver = getattr(self._theirs, "driver", self.contender.host)
        if isinstance(driver, str):
            factory = load_driver_factory(driver)
            if factory is None:
                raise Missing(f"no driver is called {driver!r}")
            self.driver = make_driver(factory, needs)
        elif driver is not None:
            self.driver = make_driver(driver, needs) if callable(driver) else driver
        attach = getattr(self._theirs, "attach", None)
        if callable(attach):
            attach(self.driver)

    def abilities(self) -> frozenset[str]:
        api = {name for name, method in OPTIONAL.items() if callable(getattr(self._theirs, method, None))}
        return (UNIVERSAL | api | frozenset(self.driver.abilities)) - frozenset(self.declares)

    def start(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, done: Any, **options: Any) -> Any:
        return self._theirs.start(main(*args), done_callback=done, **options)

    def start_guest_run(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Any:
        return self._theirs.start_guest_run(main, *args, **options)

    async def modal(self, fn: Callable[..., T], *args: Any) -> T:
        return cast("T", await self._theirs.modal(fn, *args))

    def counters(self) -> dict[str, int]:
        if not hasattr(self._theirs, "counters"):  # cases ask for them that do not need them
            return super().counters()
        return dict(self._theirs.counters())

    def run(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        options = {k: v for k, v in options.items() if v is not None}
        theirs = getattr(self._theirs, "run", None)
        if theirs is None:
            if "loop_factory" in options:  # somebody's loop cannot be made of another one
                raise tree.scenarios("api").Unsupported("loop_factory")
            with asyncio.Runner(loop_factory=self._theirs.new_loop, **options) as runner:
                # As asyncio.run does, and a Runner with a factory does not: child watchers are attached by this.
                asyncio.set_event_loop(runner.get_loop())
                try:
                    return runner.run(main(*args))
                finally:
                    runner.close()
                    asyncio.set_event_loop(None)
        if "loop_factory" in options and "loop_factory" not in inspect.signature(theirs).parameters:
            raise tree.scenarios("api").Unsupported("loop_factory")
        return cast("T", theirs(main(*args), **options))

    def new_loop(self) -> asyncio.AbstractEventLoop:
        if not hasattr(self._theirs, "new_loop"):
            raise tree.scenarios("api").Unsupported("new_loop")
        return cast("asyncio.AbstractEventLoop", self._theirs.new_loop())

    def info(self) -> dict[str, Any]:
        versions = [f"{name} {_distribution(name)}" for name in self.contender.packages]
        info = {"engine_ran": None, "strategy": None, "toolkit_version": ", ".join(versions) or None}
        own = getattr(self._theirs, "info", None)
        return {**info, **(own() if callable(own) else own or {})}

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


