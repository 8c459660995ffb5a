"""Contenders: what a name means, which there are, and how a cell of one is started.

``plain``; ``guest/<host>[@late][+watch|+waiter][+stock|+fast]``; ``peer/<name>[@<host>]``; ``module:factory`` for
somebody's own loop.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import importlib
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from . import tree
from .tree import UsageError

STRATEGIES = ("watch", "waiter")
ENGINES = ("stock", "fast", "uvloop", "proposal")
CORE_GROUPS = frozenset("TCSLPXKAQEZ")
"""Groups whose MUST cases nobody of ours may declare away."""
UNIVERSAL = frozenset("subprocess tls signals threads fork child".split())
"""Abilities that a contender has unless it says otherwise."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """One loop under test."""

    name: str
    kind: Literal["plain", "guest", "factory"]
    host: str | None = None
    late: bool = False
    strategy: str | None = None
    engine: str | None = None
    display: bool = False
    env: tuple[tuple[str, str], ...] = ()
    before: tuple[str, ...] = ()
    gi: tuple[tuple[str, str], ...] = ()
    version: tuple[str, ...] = ()
    process_fds: tuple[tuple[str, int], ...] = ()
    process_threads: tuple[str, ...] = ()
    environment: str | None = None
    """Of ``ci/environments.toml``; None: the interpreter that runs the harness."""
    factory: str | None = None
    """``module:factory`` of somebody's own loop; `host` is then the one whose driver it gets unless it brings one."""
    packages: tuple[str, ...] = ()
    """Distributions whose versions make up the toolkit's version."""

    def as_json(self) -> dict[str, Any]:
        """For the cell's process."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Contender:
        pairs = ("env", "gi", "process_fds")
        data = {k: tuple(tuple(p) for p in v) if k in pairs else v for k, v in data.items()}
        return Contender(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


@functools.cache
def table() -> dict[str, dict[str, Any]]:
    """The pinned table's rows by host."""
    import tomllib  # a cell is told what its row says

    with open(tree.HERE / "contenders.toml", "rb") as file:
        return dict(tomllib.load(file).get("host", {}))


@functools.cache
def peer_table() -> dict[str, dict[str, Any]]:
    """The pinned table's rows by peer, ``name`` or ``name@host``."""
    import tomllib

    with open(tree.HERE / "contenders.toml", "rb") as file:
        return dict(tomllib.load(file).get("peer", {}))


@functools.cache
def peers() -> dict[str, str]:
    """The modules of all peers by the peers' names: each file of ``peers/``, and each row that gives one of them
    another host.  ``_`` in a file's name is ``-`` in the peer's."""
    found = {path.stem.replace("_", "-"): path.stem for path in sorted((tree.HERE / "peers").glob("[a-z]*.py"))}
    return found | {name: found[name.partition("@")[0]] for name in peer_table() if name.partition("@")[0] in found}


@functools.cache
def hosts() -> tuple[str, ...]:
    """All hosts, by folder (tree and built package) and by entry point; `poll` first, then by name."""
    found = {"poll"}  # part of the core
    folders = [tree.TOP / "backends"] if tree.IN_TREE else []
    built = tree.site()
    if built is not None:
        folders.append(built / "asyncio_guest" / "backends")
    else:
        try:
            import asyncio_guest
        except ImportError:
            pass
        else:
            folders += [Path(p) / "backends" for p in asyncio_guest.__path__]
    for folder in folders:
        if folder.is_dir():
            found |= {
                p.name if p.name in table() else p.name.replace("_", "-")
                for p in folder.iterdir()
                if p.is_dir()
                and not p.name.startswith(("_", "."))
                and any((p / name).is_file() for name in ("__init__.py", "meson.build"))
            }
    import importlib.metadata  # slow to import, and a cell's process needs it not

    found |= {entry.name for entry in importlib.metadata.entry_points(group="asyncio_guest.backends")}
    return tuple(sorted(found, key=lambda name: (name != "poll", name)))


@functools.cache
def strategies(host: str) -> tuple[str, ...]:
    """Those that the host's backend says it has; all where it cannot be asked, and its cells say why."""
    try:
        own = importlib.import_module("asyncio_guest._hosts").backend_of(host.replace("-", "_")).strategies
    except (ImportError, ValueError):
        own = ()
    return tuple(s for s in STRATEGIES if s in own) or STRATEGIES


def environment_of(row: dict[str, Any]) -> str | None:
    """The environment that a row's cells need with this interpreter: none where it has the module `unless` itself."""
    module = row.get("unless")
    if module is not None:
        import importlib.util

        if importlib.util.find_spec(module) is not None:
            return None
    return row.get("environment")


def parse(name: str) -> Contender:
    """The contender called `name`.  Raises UsageError for a name that means nothing."""
    if name == "plain":
        return Contender("plain", "plain")
    if ":" in name:
        module, _, factory = name.partition(":")
        if not module or not factory.isidentifier():
            raise UsageError(f"{name!r}: a contender of your own is written module:factory")
        return Contender(name, "factory", display=True, factory=name)
    if name.startswith("peer/"):
        return _peer(name)
    if name.startswith("guest/"):
        base, *suffixes = name.removeprefix("guest/").split("+")
        host, at, late = base.partition("@")
        strategy = engine = None
        for suffix in suffixes:
            if suffix in STRATEGIES and strategy is None:
                strategy = suffix
            elif suffix in ENGINES and engine is None:
                engine = suffix
            else:
                raise UsageError(
                    f"{name!r}: +{suffix} is neither a strategy ({', '.join(STRATEGIES)}) nor an engine "
                    f"({', '.join(ENGINES)}), or is there twice"
                )
        if host not in hosts():
            raise UsageError(unknown("host", host, hosts()))
        if strategy is not None and strategy not in strategies(host):
            raise UsageError(f"{name!r}: the host {host} has no strategy but {', '.join(strategies(host))}")
        row = table().get(host, {})
        if at and (late != "late" or not row.get("late")):
            raise UsageError(f"{name!r}: @{late} means nothing for host {host}")
        return Contender(
            name,
            "guest",
            host,
            bool(at),
            strategy,
            engine,
            bool(row.get("display", True)),
            tuple(sorted(row.get("env", {}).items())),
            () if at else tuple(row.get("before", ())),
            tuple(sorted(row.get("gi", {}).items())),
            tuple(row.get("version", ())),
            tuple(sorted(row.get("process_fds", {}).items())),
            tuple(row.get("process_threads", ())),
            environment_of(row),
        )
    raise UsageError(unknown("contender", name, everything()))


def _peer(name: str) -> Contender:
    """Another project's loop: what its row says, over what its host's row says."""
    short = name.removeprefix("peer/")
    if short not in peers():
        raise UsageError(unknown("peer", short, peers()))
    row = peer_table().get(short, {})
    host = row.get("host")
    base = table().get(host, {}) if host else {"display": False}
    fds, threads = {**base.get("process_fds", {}), **row.get("process_fds", {})}, row.get("process_threads", ())
    return Contender(
        name,
        "factory",
        host,
        display=bool(row.get("display", base.get("display", True))),
        env=tuple(sorted({**base.get("env", {}), **row.get("env", {})}.items())),
        gi=tuple(sorted(base.get("gi", {}).items())),
        process_fds=tuple(sorted(fds.items())),
        process_threads=(*base.get("process_threads", ()), *threads),
        environment=row.get("environment", base.get("environment")),
        factory=f"{tree.PACKAGE}.peers.{peers()[short]}:make",
        packages=tuple(row.get("packages", ())),
    )


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A message for a name that does not exist, with those that are near."""
    import difflib  # for messages only

    known = list(known)
    near = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "there are: " + (", ".join(known[:40]) or "none")
    return f"no {what} is called {name!r}; {hint}"


def defaults(tier: str = "quick") -> list[str]:
    """The contenders that run when none is named: in the quick tier each host as it comes; in the full
    tier each strategy with each engine too, and the peers."""
    names = ["plain", *(f"guest/{host}" for host in hosts())]
    if tier == "full":
        names += [name for name in everything() if name not in names and name.count("+") != 1]
    return names


def everything() -> list[str]:
    """Every contender that can be named without a module."""
    names = ["plain"]
    for host in hosts():
        bases = [f"guest/{host}"]
        if table().get(host, {}).get("late"):
            bases.append(f"guest/{host}@late")
        for base in bases:
            names.append(base)
        names += [f"guest/{host}+{s}" for s in strategies(host)]
        names += [f"guest/{host}+{e}" for e in ENGINES[:2]]
        names += [f"guest/{host}+{s}+{e}" for s in strategies(host) for e in ENGINES[:2]]
    return names + [f"peer/{name}" for name in peers()]


def expand(pattern: str, tier: str = "quick") -> list[str]:
    """The names that a glob means.  A glob means names with as many ``+`` and ``@`` as it has itself; ``*`` alone
    means the tier's default contenders.  Raises UsageError if there is none."""
    if pattern == "*":
        return defaults(tier)
    if not any(c in pattern for c in "*?["):
        return [parse(pattern).name]
    names = [
        name
        for name in everything()
        if fnmatch.fnmatchcase(name, pattern) and all(pattern.count(c) == name.count(c) for c in "+@")
    ]
    if not names:
        raise UsageError(unknown("contender", pattern, everything()))
    return names


def unmet(patterns: Sequence[str], ran: Collection[str]) -> list[str]:
    """Those of a command line's patterns that mean contenders of which none is among those that `ran`.

    A name has to run, of a glob one at least: what is asked for and did not run is no pass.
    """
    return [pattern for pattern in patterns if not set(expand(pattern)) & set(ran)]


def match_cases(pattern: str, cases: dict[str, Any]) -> list[str]:
    """The ids that a glob means: an id, an item (``T.01``), a group (``T``) or a glob over ids."""
    found = [
        id
        for id, case in cases.items()
        if fnmatch.fnmatchcase(id, pattern) or pattern in (case.item, case.group, id.partition("-")[0])
    ]
    if not found:
        raise UsageError(unknown("case", pattern, cases))
    return found


def select(selectors: Sequence[str], cases: dict[str, Any], tier: str) -> list[tuple[str, str]]:
    """The cells (contender, case) that the selectors mean, in order, each once.

    A selector without ``::`` is a contender where it can be one, else a case.  A case that is
    named without a glob runs whatever its tier.
    """
    cells: dict[tuple[str, str], None] = {}
    in_tier = {id for id, case in cases.items() if tier == "full" or case.tier == "quick"}
    for selector in selectors or ["*::*"]:
        left, colons, right = selector.partition("::")
        if not colons:
            try:
                names, ids = expand(left, tier), list(cases)
                right = "*"
            except UsageError:
                try:
                    names, ids, right = defaults(tier), match_cases(left, cases), left
                except UsageError:
                    raise UsageError(
                        f"{selector!r} is neither a contender nor a case; a selector is CONTENDERGLOB::CASEGLOB"
                    ) from None
        else:
            names, ids = expand(left or "*", tier), match_cases(right or "*", cases)
        exact = not any(c in right for c in "*?[")
        for name in names:
            for id in ids:
                if sys.version_info[:2] < tuple(cases[id].min_python) and right != id:
                    continue
                if id in in_tier or (exact and right not in (cases[id].group,)):
                    cells[name, id] = None
    return list(cells)


@functools.cache
def declared() -> tuple[dict[str, str], ...]:
    """What our own guests declare unsupported, from the reviewed file."""
    import tomllib

    with open(tree.HERE / "declared.toml", "rb") as file:
        rows = tomllib.load(file).get("unsupported", [])
    for row in rows:
        if set(row) != {"contender", "case", "reason"}:
            raise UsageError(f"declared.toml: {row} needs exactly contender, case and reason")
    return tuple(rows)


def check_declared(cases: dict[str, Any]) -> None:
    """Raises UsageError when a MUST of the core groups is declared away."""
    for row in declared():
        for id, case in cases.items():
            if fnmatch.fnmatchcase(id, row["case"]) and case.group in CORE_GROUPS and case.level == "MUST":
                raise UsageError(f"declared.toml declares {id} away, a MUST of group {case.group}")


def declared_unsupported(contender: str, id: str) -> str | None:
    """The reason why one of our own guests need not do a case, or None."""
    for row in declared():
        if fnmatch.fnmatchcase(contender, row["contender"]) and fnmatch.fnmatchcase(id, row["case"]):
            return row["reason"]
    return None
