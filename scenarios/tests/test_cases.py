"""The rules that cases keep, and the catalogue's word about them."""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import sys
import textwrap
from typing import Any

import pytest

from .. import api, catalogue, support
from .. import cases as _cases

_cases.load()
FOLDER = pathlib.Path(api.__file__).parent
MODULES = sorted(FOLDER.glob("*.py")) + sorted((FOLDER / "cases").glob("*.py"))
MODULES += sorted((FOLDER / "programs").glob("*.py"))
NEEDS = frozenset(
    "host loop window modal paint input nested flood timer idle "
    "start_api start_guest_run modal_api counters child subprocess tls signals threads fork".split()
)
GROUPS_OF_ASYNCIO = "TCSLPXKAQDE"
TELLING = ("t.log", "t.check", "t.child", "t.measure", "self.t.log", "asyncio.wait_for")
"""What a case can tell by: an event, a check, a figure, a wait with an end."""
ITEMS = catalogue.load()


@pytest.mark.parametrize("case", api.CASES.values(), ids=lambda case: case.id)
def test_metadata(case: api.Case) -> None:
    assert re.fullmatch(r"[A-Z]\.\d\d[a-z]?-[a-z0-9]+(-[a-z0-9]+)*", case.id)
    assert case.item in ITEMS, f"{case.item} is not in the catalogue"
    assert case.description.endswith("."), "the description is no sentence"
    assert len(case.description.split()) >= 5, "the description is no sentence"
    assert case.level in ("MUST", "SHOULD", "INFO")
    assert case.tier in ("quick", "full")
    assert case.needs <= NEEDS, f"unknown abilities: {case.needs - NEEDS}"
    assert case.oracle in ("plain", "own")
    if case.group in GROUPS_OF_ASYNCIO:
        assert len(case.rejects.split()) >= 2, "a case says what it rejects"
        assert not case.report or re.fullmatch(r"[\w.-]+([#-]\d+)?(, [\w.-]+([#-]\d+)?)*", case.report)
    assert case.timeout <= 120, "a watchdog of more than two minutes"
    parameters = list(inspect.signature(case.func).parameters)
    assert parameters == ["t"]


def test_numbers_and_letters_are_unique() -> None:
    heads = [id.partition("-")[0] for id in api.CASES]
    assert not {head for head in heads if heads.count(head) > 1}


def test_an_asyncio_item_with_several_cases_letters_them_all() -> None:
    for item, ids in catalogue.by_item(api.CASES).items():
        if item[0] in GROUPS_OF_ASYNCIO:
            lettered = [id.partition("-")[0] != item for id in ids]
            assert all(lettered) == any(lettered) == (len(ids) > 1), f"{item}: {ids}"


def test_reports_are_those_of_the_catalogue() -> None:
    known = {report for item in ITEMS.values() for report in item.reports.split(", ")}
    for case in api.CASES.values():
        if case.report and case.group in GROUPS_OF_ASYNCIO:
            unknown = set(case.report.split(", ")) - known
            assert not unknown, f"{case.id} cites {unknown}, which the catalogue does not know"


def _imports(tree: ast.AST) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, (node.module or "").partition(".")[0]))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_only_the_standard_library(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    depth = len(path.relative_to(FOLDER).parts)
    for level, name in _imports(tree):
        if level:
            assert level <= depth, f"{path.name} reaches out of the package"
        else:
            assert name in sys.stdlib_module_names, f"{path.name} imports {name}"
            assert name not in ("tkinter", "_tkinter", "turtle", "idlelib"), f"{path.name} knows a host"


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func)


class _Sleeps(ast.NodeVisitor):
    """Finds what blocks the thread in the code that a loop runs: coroutines, and plain functions inside them."""

    ELSEWHERE = {"from_thread", "asyncio.to_thread", "threading.Thread"}
    BLOCKING = {"time.sleep", "subprocess.run", "subprocess.check_call", "subprocess.check_output", "os.system"}

    def __init__(self) -> None:
        self.inside = 0
        self.found: list[str] = []

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.inside += 1
        self.generic_visit(node)
        self.inside -= 1

    def visit_Call(self, node: ast.Call) -> None:
        if _called(node) in self.ELSEWHERE or _called(node).endswith(".run_in_executor"):
            return
        if self.inside and _called(node) in self.BLOCKING:
            self.found.append(f"line {node.lineno}: {_called(node)}")
        self.generic_visit(node)


def _sleeps(source: str) -> list[str]:
    visitor = _Sleeps()
    visitor.visit(ast.parse(source))
    return visitor.found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_blocks_in_async_code(path: pathlib.Path) -> None:
    assert _sleeps(path.read_text(encoding="utf-8")) == []


def test_the_check_for_blocking_calls_finds_one() -> None:
    assert _sleeps("async def f():\n    def g():\n        time.sleep(1)\n") == ["line 3: time.sleep"]
    assert _sleeps("async def f():\n    from_thread(lambda: time.sleep(1))\n    time.sleep(2)\n") == [
        "line 3: time.sleep"
    ]
    assert _sleeps("def f():\n    time.sleep(1)\n") == []


def _says_something(function: Any, seen: set[int]) -> bool:
    """Whether `function`, or something of the package that it names, logs or checks."""
    seen.add(id(function))
    namespace = getattr(function, "__globals__", None) or vars(sys.modules[function.__module__])
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in TELLING:
            return True
        if isinstance(node, ast.Name):
            named = inspect.unwrap(namespace.get(node.id)) if callable(namespace.get(node.id)) else None
            ours = (getattr(named, "__module__", None) or "").startswith(api.__name__.rpartition(".")[0])
            if ours and id(named) not in seen and not isinstance(named, api.Case) and _says_something(named, seen):
                return True
    return False


@pytest.mark.parametrize("case", api.CASES.values(), ids=lambda case: case.id)
def test_every_case_logs_or_checks(case: api.Case) -> None:
    assert _says_something(case.func, set())


def test_a_case_that_says_nothing_is_found() -> None:
    async def silent(t: api.CaseContext) -> None:
        await support.iterations(1)

    assert not _says_something(silent, set())


def test_every_module_of_the_folder_is_imported() -> None:
    package = _cases.__name__
    for path in (FOLDER / "cases").glob("[a-z]*.py"):
        assert f"{package}.{path.stem}" in sys.modules
        assert any(case.func.__module__ == f"{package}.{path.stem}" for case in api.CASES.values()), path.stem


@pytest.mark.parametrize(("group", "items"), [(g, 6) for g in "TCSPXKAE"] + [("Q", 5), ("D", 5), ("L", 6)])
def test_groups_are_covered(group: str, items: int) -> None:
    covered = {case.item for case in api.CASES.values() if case.group == group}
    assert len(covered) >= items, f"{group} covers {sorted(covered)} only"


@pytest.mark.parametrize("group", "TCSPXKAE")
def test_enough_of_each_group_is_quick(group: str) -> None:
    quick = [
        case for case in api.CASES.values() if case.group == group and case.tier == "quick" and case.level == "MUST"
    ]
    assert len(quick) >= 6


def test_what_is_large_has_a_quick_sibling() -> None:
    for case in api.CASES.values():
        if case.tier == "full" and case.group in GROUPS_OF_ASYNCIO:
            siblings = [c for c in api.CASES.values() if c.item == case.item and c.tier == "quick"]
            assert siblings, f"{case.id} has no quick sibling"


def test_the_catalogue_names_every_case() -> None:
    text = catalogue.PATH.read_text(encoding="utf-8")
    assert catalogue.render(text, api.CASES) == text, "run python3 -m scenarios.catalogue --write"


def test_the_catalogue_is_numbered_without_gaps() -> None:
    by_group: dict[str, list[int]] = {}
    for id in ITEMS:
        by_group.setdefault(id[0], []).append(int(id[2:]))
    for group, numbers in by_group.items():
        assert numbers == list(range(1, len(numbers) + 1)), f"group {group}: {numbers}"


def test_an_item_that_is_there_twice_is_refused() -> None:
    row = "| T.01 | what |  |  |\n"
    assert set(catalogue.load(row)) == {"T.01"}
    with pytest.raises(ValueError, match="twice"):
        catalogue.load(row * 2)


def test_render_puts_cases_where_they_belong() -> None:
    func = api.CASES["T.01a-equal-deadlines"].func
    one = {"X.02-b": api.Case("X.02-b", "d", func), "X.01-a": api.Case("X.01-a", "d", func)}
    text = "| X.01 | one | r#1 | `old` |\n| X.02 | two |  |  |\nprose\n"
    assert catalogue.render(text, one) == "| X.01 | one | r#1 | `X.01-a` |\n| X.02 | two |  | `X.02-b` |\nprose\n"


def test_two_cases_of_one_id_are_refused() -> None:
    id = next(iter(api.CASES))
    with pytest.raises(ValueError, match="two cases"):
        api.case(id, "Again.")(lambda t: None)


def test_pattern_has_no_repetitions() -> None:
    data = support.pattern(200_000)
    assert len(data) == 200_000
    assert len({data[i : i + 32] for i in range(0, 200_000 - 32, 32)}) > 6000
