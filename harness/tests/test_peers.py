"""Other projects' loops: found by folder, small, pinned, of no weight for the exit code; their page is right."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness import adapters, contenders, expectations, results, tree
from harness.tree import UsageError
from harness.session import Session
from harness.tests.conftest import CASES, command, environment

FOLDER = tree.HERE / "peers"
FILES = sorted(FOLDER.glob("[a-z]*.py"))
WANTED = {
    "qasync", "qtasyncio", "qtinter", "gbulb", "asyncio-glib", "aiotkinter", "gi-events", "async-tkinter-loop",
    "aioguest", "nest-asyncio", "uvloop",
}  # fmt: skip


def test_all_are_there() -> None:
    assert WANTED <= set(contenders.peers())
    assert {f"peer/{name}" for name in contenders.peers()} == set(contenders.expand("peer/*"))
    assert not any(name.startswith("peer/") for name in contenders.defaults("quick"))
    assert {f"peer/{name}" for name in contenders.peers()} <= set(contenders.defaults("full"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_a_peer_is_a_small_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 30
    assert re.search(r"^make = \w+$", text, re.M)
    assert "scenarios" not in text and "harness" not in text, "a peer knows no case"


def test_rows_name_what_exists() -> None:
    known = tomllib.loads((tree.TOP / "ci" / "environments.toml").read_text(encoding="utf-8"))
    for name, row in contenders.peer_table().items():
        assert name in contenders.peers(), f"[peer.{name}] has no file"
        assert set(row) <= {"host", "environment", "env", "display", "packages", "process_fds", "process_threads"}
        assert row.get("environment") is None or row["environment"] in known, name


def test_nothing_else_knows_a_peer() -> None:
    """No case, and no module of the harness, has a word about one: the suite finds what it finds."""
    names = ("qasync", "QtAsyncio", "qtinter", "gbulb", "asyncio.glib", "aiotkinter", "async.tkinter.loop", "aioguest")
    words = re.compile(rf"\b({'|'.join(names)}|nest.asyncio)\b")
    code = re.compile(r"^\s*(import|from|if|elif|return|while)\b|==|\bin \(")
    for path in [*tree.HERE.glob("*.py"), *(tree.TOP / "scenarios").rglob("*.py")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if words.search(line):
                # Named in words: the public report that a case stems from, the peer that it turns red for, a remark.
                assert not code.search(line), f"{path.name}:{number}"


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean qasync"):
        contenders.parse("peer/qasinc")


def test_a_peer_on_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {**contenders.peer_table(), "uvloop@tk": {"host": "tk", "environment": "e", "env": {"A": "1"}}}
    monkeypatch.setattr(contenders, "peer_table", lambda: rows)
    contenders.peers.cache_clear()
    try:
        made = contenders.parse("peer/uvloop@tk")
    finally:
        contenders.peers.cache_clear()
    assert (made.host, made.environment, made.display, made.env) == ("tk", "e", True, (("A", "1"),))
    assert made.factory == "harness.peers.uvloop:make" and made.name == "peer/uvloop@tk"


LEAKY = """
import dataclasses, sys
from harness import cli, contenders
contenders.peers = lambda: {"leaky": "leaky"}
made = dataclasses.replace(contenders.parse("harness.tests.faulty:leaks_fd"), name="peer/leaky")
contenders._peer = lambda name: made
sys.exit(cli.main(sys.argv[1:]))
"""
"""The command line with one more peer, which leaks a descriptor."""


def test_peers_do_not_turn_the_exit_code(tmp_path: Path) -> None:
    cells = ["peer/leaky::X.90-order", "plain::X.90-order"]
    turns: list[tuple[list[str], int]] = [([], 0), (["--strict"], 3)]
    for options, code in turns:
        done = subprocess.run(
            [command()[0], "-c", LEAKY, "run", "--results", str(tmp_path), "--cases", str(CASES), *options, *cells],
            cwd=tree.TOP, env=environment(), capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        found = results.read(tmp_path / "conformance.json")["cells"]
        assert [c["teardown"] for c in found if c["contender"] == "peer/leaky"] == [["LEAK_FD"]]


def test_expectations_of_peers_have_files_of_their_own() -> None:
    folder = tree.HERE / "expectations" / "peers"
    for path in folder.glob("*.toml"):
        assert path.stem in contenders.peers()
        for expected in expectations.parse(tomllib.loads(path.read_text(encoding="utf-8")), path.name):
            assert expected.contender.partition("@")[0].rstrip("*") == f"peer/{path.stem}"
    assert not any(
        e.contender.startswith("peer/")
        for e in expectations.parse(
            tomllib.loads((folder.parent / "guests.toml").read_text(encoding="utf-8")), "guests.toml"
        )
    )
    loaded = {e.contender.partition("@")[0] for e in expectations.load()}
    assert {f"peer/{path.stem}" for path in folder.glob("*.toml")} <= loaded


def example() -> str:
    """The page's example."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example.*?-->\n```python\n(.*?)```", text, re.S)
    assert found
    return found[1]


def test_the_pages_example_runs_as_it_stands(tmp_path: Path) -> None:
    """In a folder of a stranger's, with a stand-in for the package where that is not installed."""
    code = example()
    assert len(code.splitlines()) < 30
    (tmp_path / "myloop_contender.py").write_text(code, encoding="utf-8")
    (tmp_path / "aiotkinter.py").write_text(
        "import asyncio\n\n\nclass TkinterEventLoopPolicy(asyncio.DefaultEventLoopPolicy):\n    pass\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        command("run", "--results", str(tmp_path / "results"), "--cases", str(CASES),
                "myloop_contender:make::X.90-order", "myloop_contender:make::C.06a-bound-methods-kept"),
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    cells = results.read(tmp_path / "results" / "conformance.json")["cells"]
    assert [c["behaviour"] for c in cells] == ["PASS", "PASS"]


def test_run_and_new_loop_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halves.py").write_text(
        "import asyncio\n\n\nclass Loops:\n    new_loop = staticmethod(asyncio.new_event_loop)\n\n\n"
        "class Runs:\n    def run(self, main, debug=None):\n        return asyncio.run(main, debug=debug)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    with Session(scale=1.0) as session:
        ran = session.run_cell("halves:Loops", "T.01a-equal-deadlines")
        assert (ran.behaviour, ran.teardown) == ("PASS", []), ran
        ran = session.run_cell("halves:Runs", "T.01a-equal-deadlines")
        assert (ran.behaviour, ran.teardown) == ("PASS", []), ran
        for name in ("halves:Loops", "halves:Runs"):
            for id in ("S.13a-select-selector", "E.05a-error-in-poll"):  # the latter catches everything
                ran = session.run_cell(name, id)
                assert (ran.behaviour, ran.reason) == ("UNSUPPORTED", "lacks loop_factory"), ran
        new_loop = next(id for id in session.cases if id.startswith("Z.") and "new_loop()" in source(session, id))
        ran = session.run_cell("halves:Runs", new_loop)
        assert (ran.behaviour, ran.reason) == ("UNSUPPORTED", "lacks new_loop"), ran


def test_a_loop_is_the_current_one_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Runner with a factory makes it none, so no child watcher knew it: P.11b-d failed for every loop that starts its
    processes as asyncio does."""
    (tmp_path / "current.py").write_text(
        "import asyncio\n\n\nclass Loops:\n    new_loop = staticmethod(asyncio.new_event_loop)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    with Session(scale=1.0) as session:
        for id in ("P.11b-pidfd-child-watcher", "P.11c-safe-child-watcher"):
            ran = session.run_cell("current:Loops", id)
            assert ran.behaviour in ("PASS", "UNSUPPORTED"), ran  # newer Pythons have no watchers
            assert ran.teardown == [], ran


def test_counters_that_are_left_out_are_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases of idleness look at counters where there are any; an AttributeError made them hang under every peer."""
    (tmp_path / "countless.py").write_text("class Loops:\n    def new_loop(self):\n        raise NotImplementedError\n")
    monkeypatch.syspath_prepend(tmp_path)
    adapter = adapters.adapter(contenders.parse("countless:Loops"))
    with pytest.raises(tree.scenarios("api").Unsupported, match="counters"):
        adapter.counters()


def source(session: Session, id: str) -> str:
    """The text of a case."""
    import inspect

    return inspect.getsource(session.cases[id].func)
