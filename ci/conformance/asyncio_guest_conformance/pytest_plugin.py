"""Makes pytest know ``--contender``; of no effect on a run that does not give it."""

from __future__ import annotations

import pytest

from .harness import plugin  # type: ignore[import-not-found]

PACKAGE = __name__.partition(".")[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    plugin.pytest_addoption(parser)


def pytest_configure(config: pytest.Config) -> None:
    if config.option.contender:
        plugin.pytest_configure(config)
    elif any(str(argument).partition("::")[0] == PACKAGE for argument in config.invocation_params.args):
        raise pytest.UsageError(f"{PACKAGE}: say which loop, by --contender module:factory")
