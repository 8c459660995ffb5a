"""What the cases have to be, all together."""

from __future__ import annotations

import collections

import pytest

from harness import contenders, results, tree
from harness.tests.conftest import CASES

LEAST = dict.fromkeys("TCSPXKAEZG", 4)
"""Quick cases a group; about different items of the catalogue."""
LEAST_IN_ALL = 70


def ours() -> dict[str, object]:
    return {id: case for id, case in tree.load_cases().items() if str(tree.case_file(case)) != str(CASES)}


def test_least_number_of_quick_cases() -> None:
    quick = [case for case in ours().values() if case.tier == "quick"]  # type: ignore[attr-defined]
    items: dict[str, set[str]] = collections.defaultdict(set)
    for case in quick:
        items[case.group].add(case.item)  # type: ignore[attr-defined]
    few = {group: len(items[group]) for group, least in LEAST.items() if len(items[group]) < least}
    assert not few, f"too few items with quick cases: {few}"
    assert len(quick) >= LEAST_IN_ALL


def test_ids_fit_the_schema() -> None:
    import re

    pattern = results.schema()["properties"]["cells"]["items"]["properties"]["case"]["pattern"]
    assert [id for id in ours() if not re.match(pattern, id)] == []


def test_every_case_says_what_it_expects() -> None:
    for id, case in ours().items():
        assert case.description.strip().endswith((".", ")")), id  # type: ignore[attr-defined]
        assert case.timeout <= 600, id  # type: ignore[attr-defined]


def test_no_must_is_declared_away() -> None:
    contenders.check_declared(ours())


def test_contenders_are_parsed_and_named() -> None:
    names = contenders.everything()
    assert len(names) == len(set(names))
    for name in names:
        assert contenders.parse(name).name == name
    both = contenders.parse("guest/poll+fast+waiter")
    assert (both.strategy, both.engine) == ("waiter", "fast")
    assert contenders.expand("guest/*+stock") == [f"guest/{host}+stock" for host in contenders.hosts()]
    # A host that can only be posted to has no strategy "watch".
    assert "guest/callables+waiter" in names and "guest/callables+watch" not in names
    with pytest.raises(tree.UsageError, match="no strategy but waiter"):
        contenders.parse("guest/callables+watch+fast")
    again = contenders.Contender.from_json(both.as_json())
    assert again == both
