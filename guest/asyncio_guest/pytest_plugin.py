"""``pytest --guest-host=HOST``: the event loops of a test suite as guests of a host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from . import _hosts
from ._install import Installation, install
from ._totals import totals

_installation = pytest.StashKey[Installation]()
_workers = pytest.StashKey[Mapping[str, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("asyncio-guest", "asyncio event loops as guests of a GUI main loop")
    group.addoption("--guest-host", metavar="HOST", help="run every asyncio event loop inside HOST's main loop")
    group.addoption("--guest-engine", metavar="ENGINE", help="force the engine: stock or fast")
    group.addoption("--guest-strategy", metavar="STRATEGY", help="force the strategy: watch or waiter")
    group.addoption(
        "--guest-threads",
        choices=("poll", "error"),
        default="poll",
        help="loops on threads that HOST refuses: run them on poll (default), or raise the host's error",
    )


def pytest_configure(config: pytest.Config) -> None:
    host = config.getoption("--guest-host")
    if host is None:
        return
    try:
        config.stash[_installation] = install(
            host,
            threads=config.getoption("--guest-threads"),
            engine=config.getoption("--guest-engine"),
            strategy=config.getoption("--guest-strategy"),
        )
    except (ValueError, TypeError, _hosts.HostUnavailable) as exc:
        raise pytest.UsageError(f"--guest-host: {exc}") from exc
    empty: Mapping[str, int] = {}
    config.stash[_workers] = empty


def pytest_unconfigure(config: pytest.Config) -> None:
    installation = config.stash.get(_installation, None)
    if installation is not None:
        installation()


def pytest_report_header(config: pytest.Config) -> str | None:
    installation = config.stash.get(_installation, None)
    if installation is None:
        return None
    threads, engine, strategy = installation.options
    return (
        f"asyncio-guest: host {installation.host}, engine {engine or 'probed'}, "
        f"strategy {strategy or 'default'}, refused threads: {threads}"
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)  # a worker of pytest-xdist
    if output is not None and _installation in session.config.stash:
        output["asyncio_guest_totals"] = totals()


@pytest.hookimpl(optionalhook=True)  # type: ignore[misc]
def pytest_testnodedown(node: Any, error: object) -> None:
    counters = getattr(node, "workeroutput", {}).get("asyncio_guest_totals", {})
    if _workers in node.config.stash:
        sums = Counter(node.config.stash[_workers])
        sums.update(counters)
        node.config.stash[_workers] = dict(sums)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    installation = config.stash.get(_installation, None)
    if installation is None:
        return
    sums = Counter(totals())
    sums.update(config.stash[_workers])
    terminalreporter.section("asyncio-guest")
    terminalreporter.line(
        f"{sums['guests']} loops ran as guests: {sums['turns']} turns, {sums['iterations']} iterations "
        f"({sums['iterations_fast']} by the engine fast)"
    )
    terminalreporter.line(
        f"turns by selector: {sums['turns_descriptor']} descriptor, {sums['turns_mirrored']} mirrored, "
        f"{sums['turns_always_due']} always due"
    )
    if sums["guests_fallback"]:
        terminalreporter.line(
            f"{sums['guests_fallback']} of them on poll, because {installation.host} refuses their threads"
        )
    if sums["runs_nested"]:
        terminalreporter.line(f"{sums['runs_nested']} runs nested in a guest were left to the loop itself")
