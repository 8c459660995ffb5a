"""Suites of other projects: told as pytest tells them, hangs survived, differences and nothing else reported."""

from __future__ import annotations

import json
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import results, suite, suite_pytest, tree
from harness.session import Session
from harness.suite_pytest import Absent, Foreign
from harness.tree import UsageError

from .conftest import Ran

ALL_KINDS = """
import asyncio, os, threading
import pytest

def test_a_pass():
    assert asyncio.run(asyncio.sleep(0.001, "slept")) == "slept"

def test_b_hangs():
    threading.Event().wait()

@pytest.mark.parametrize("word", ["one two", "(three)"])
def test_c_parameters(word):
    assert word

def test_d_dies():
    os.abort()

def test_e_fails():
    assert 1 == 2, "one is not two"

@pytest.fixture
def broken():
    raise LookupError("a fixture")

def test_f_errors(broken):
    pass

@pytest.mark.skip(reason="why not")
def test_g_skipped():
    pass

@pytest.mark.xfail
def test_h_expected():
    assert False

@pytest.mark.xfail
def test_i_unexpected():
    pass
"""

TELLS = """
import asyncio, sys

def test_same():
    asyncio.run(asyncio.sleep(0))

def test_other():
    asyncio.run(asyncio.sleep(0))
    assert "asyncio_guest" not in sys.modules, "a guest"
"""


def test_outcomes_behind_a_hang_and_a_crash(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_all.py").write_text(ALL_KINDS)
    foreign = Foreign("sample", tmp_path, ("tests/test_*.py",))
    assert foreign.modules() == ["tests/test_all.py"]
    with Session(scale=1.0) as session:
        runner = suite.Runner(session, "*", 6.0, foreign=foreign)
        found = runner.module(session.contender("plain"), "tests/test_all.py")
    outcomes = {id.removeprefix("tests/test_all.py::test_"): test.outcome for id, test in found.items()}
    assert outcomes == {
        "a_pass": "pass",
        "b_hangs": "TIMEOUT",
        "c_parameters[one two]": "pass",
        "c_parameters[(three)]": "pass",
        "d_dies": "CRASH",
        "e_fails": "fail",
        "f_errors": "error",
        "g_skipped": "skip",
        "h_expected": "xfail",
        "i_unexpected": "xpass",
    }
    assert found["tests/test_all.py::test_a_pass"].turns > 0
    assert "one is not two" in found["tests/test_all.py::test_e_fails"].detail
    assert not list(tmp_path.rglob("__pycache__")), "the suite's own folder was written to"


def test_only_what_differs_is_told(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    (tmp_path / "test_tells.py").write_text(TELLS)
    folder = tmp_path / "out"
    arguments = ["pytest", "guest/poll", "--folder", str(tmp_path), "--files", "test_*.py", "--results", str(folder)]
    ran = harness("suite", *arguments)
    assert ran.code == results.UNEXPECTED, ran.out + ran.err
    document = results.read(folder / "suite-pytest.json", "test_asyncio")
    differences = document["runs"][1]["differences"]
    assert differences.pop("outcome") == ["test_tells.py::test_other"]
    assert not any(differences.values())
    assert "test_tells.py::test_same" not in ran.out
    same = harness("suite", *arguments, "-m", "test_tells.py::test_same")
    assert same.code == results.OK, same.out + same.err
    assert "have no guest" not in same.out
    assert harness("suite", *arguments, "--pytest-args", "-k same").code == results.OK


def test_a_file_that_does_not_load_says_why(tmp_path: Path) -> None:
    (tmp_path / "test_broken.py").write_text("import no_such_module\n")
    with Session(scale=1.0) as session:
        runner = suite.Runner(session, "*", 20.0, foreign=Foreign("sample", tmp_path, ("*.py",)))
        (test,) = runner.module(session.contender("plain"), "test_broken.py").values()
    assert test.outcome == "CRASH" and "no_such_module" in test.detail


EXITS = {
    "a SystemExit of the module": "import sys\nsys.exit(0)\n",
    "an exit of pytest in the module": "import pytest\npytest.exit('enough', returncode=0)\n",
    "an exit of pytest in a test": "import pytest\ndef test_a(): pytest.exit('enough', returncode=0)\ndef test_b(): pass\n",
}


@pytest.mark.parametrize("what", EXITS)
def test_an_exit_is_no_pass(what: str, tmp_path: Path) -> None:
    """Regression: no test ran, on either side, and both agreed."""
    (tmp_path / "test_exits.py").write_text(EXITS[what])
    with Session(scale=1.0) as session:
        runner = suite.Runner(session, "*", 20.0, foreign=Foreign("sample", tmp_path, ("*.py",)))
        found = runner.module(session.contender("plain"), "test_exits.py")
    assert "CRASH" in {test.outcome for test in found.values()}, found


def test_a_test_with_parameters_can_be_named(tmp_path: Path) -> None:
    """Regression: as a glob, its name does not mean it."""
    (tmp_path / "test_all.py").write_text(ALL_KINDS)
    name = "test_all.py::test_c_parameters[one two]"
    with Session(scale=1.0) as session:
        runner = suite.Runner(session, name, 20.0, foreign=Foreign("sample", tmp_path, ("*.py",)))
        assert list(runner.module(session.contender("plain"), "test_all.py")) == [name]


def test_every_glob_of_files_means_some(tmp_path: Path) -> None:
    """Regression: one beside another that meant some was ignored."""
    (tmp_path / "test_one.py").write_text("")
    assert Foreign("x", tmp_path, ("test_o*.py",)).modules() == Foreign("x", tmp_path, ()).modules() == ["test_one.py"]
    with pytest.raises(UsageError, match="fits test_two.py$"):
        Foreign("x", tmp_path, ("test_o*.py", "test_two.py")).modules()


def test_what_cannot_be_used(tmp_path: Path, harness: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    assert harness("suite", "jnaus").code == results.USAGE
    assert "janus" in harness("suite", "jnaus").err
    assert harness("suite", "pytest").code == results.USAGE
    assert harness("suite", "pytest", "--folder", str(tmp_path)).code == results.USAGE
    monkeypatch.setattr(tree, "interpreter", lambda environment: None)
    with pytest.raises(Absent, match="suite-janus"):
        suite_pytest.find("janus", None, (), ())


def test_the_table_names_environments_with_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    environments = tomllib.loads((tree.TOP / "ci" / "environments.toml").read_text())
    rows = suite_pytest.table()
    assert len(rows) >= 2
    for row in rows.values():
        sources = environments[row["environment"]]["unpack"]
        assert row["folder"] in {source.replace("==", "-") for source in sources}, json.dumps(row)
    monkeypatch.setattr(tree, "HERE", Path(__file__).parent / "nowhere")
    with pytest.raises((OSError, UsageError)):
        suite_pytest.table()


def test_what_plain_cannot_run_is_not_blamed_on_a_guest(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    """Regression: a file that does not load was a crash of each guest's."""
    (tmp_path / "test_broken.py").write_text("import no_such_module\n")
    (tmp_path / "test_dies.py").write_text(
        "import asyncio, os\ndef test_a(): asyncio.run(asyncio.sleep(0))\ndef test_b(): os.abort()\n"
        "def test_c():\n    import sys\n    if 'asyncio_guest' in sys.modules: os.abort()\n"
    )
    folder = tmp_path / "out"
    common = ["pytest", "guest/poll", "--folder", str(tmp_path), "--results", str(folder)]
    ran = harness("suite", *common, "--files", "test_*.py")
    assert ran.code == results.UNEXPECTED, ran.out + ran.err
    differences = results.read(folder / "suite-pytest.json", "test_asyncio")["runs"][1]["differences"]
    assert {kind: ids for kind, ids in differences.items() if ids} == {"crash": ["test_dies.py::test_c"]}
    for name in ("test_broken.py (does not load)", "test_dies.py::test_b"):
        assert ran.out.count(f"not judged {name}") == 1, ran.out
    assert "no_such_module" in ran.out
    assert harness("suite", *common, "-m", "test_dies.py::test_[ab]").code == results.INCONCLUSIVE
    assert harness("suite", *common, "--files", "test_broken.py").code == results.NOTHING_RAN


def test_a_suite_without_a_loop_compares_nothing(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    """Regression: it passed."""
    (tmp_path / "test_sum.py").write_text("def test_sum(): assert 1 + 1 == 2\n")
    arguments = ["pytest", "guest/poll", "--folder", str(tmp_path), "--results", str(tmp_path / "out")]
    ran = harness("suite", *arguments)
    assert ran.code == results.NOTHING_RAN and "nothing was compared" in ran.out, ran.out + ran.err
    assert harness("suite", *arguments, "--shard", "1/1").code == results.OK


def test_a_suites_own_options_for_pytest(tmp_path: Path) -> None:
    """Regression: workers of pytest-xdist, which have no guest, ran the tests; and options of pytest's cache were unknown."""
    pytest.importorskip("xdist")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --cache-clear -n 2 --dist loadfile\n")
    (tmp_path / "test_one.py").write_text("import asyncio\ndef test_a(): asyncio.run(asyncio.sleep(0))\ndef test_b(): pass\n")
    with Session(scale=1.0) as session:
        runner = suite.Runner(session, "*", 20.0, foreign=Foreign("sample", tmp_path, ("*.py",)))
        for name in ("plain", "guest/poll"):
            found = runner.module(session.contender(name), "test_one.py")
            assert {id: (test.outcome, bool(test.turns)) for id, test in found.items()} == {
                "test_one.py::test_a": ("pass", True),
                "test_one.py::test_b": ("pass", False),
            }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_known_differences_of_somebodys_own(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    (tmp_path / "test_tells.py").write_text(TELLS + "\ndef test_without(): pass\n")
    known = tmp_path / "known.toml"
    row = '[[expect]]\ncontender = "guest/*"\ntest = "test_tells.py::test_{}"\nkinds = ["outcome"]\nreason = "it looks"\nissue = "#1"\nsince = "now"\n'
    arguments = ["pytest", "guest/poll", "--folder", str(tmp_path), "--results", str(tmp_path / "out"), "--expect", str(known)]
    known.write_text(row.format("other"))
    ran = harness("suite", *arguments)
    assert ran.code == results.OK and "it looks (#1)" in ran.out, ran.out + ran.err
    assert "1 tests have no guest" in ran.out
    known.write_text(row.format("other") + row.format("same"))
    assert harness("suite", *arguments).code == results.STALE


def test_packages_beside_the_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: a contender with an environment of its own did not find what a suite needs."""
    with Session(scale=1.0) as session:
        plain, other = session.contender("plain"), session.contender("guest/pyside6")
        monkeypatch.setattr(session, "interpreter", lambda contender: Path("/another" if contender is other else sys.executable))
        monkeypatch.setattr(sys, "base_prefix", sys.prefix)
        assert session.beside(plain) == session.beside(other) == []
        monkeypatch.setattr(sys, "base_prefix", "/system")
        assert session.beside(plain) == []
        assert sysconfig.get_path("purelib") in session.beside(other)


MAIN_AGAIN = """
import asyncio, concurrent.futures, importlib.util, multiprocessing, sys

def test_spawned():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        async def main():
            return await asyncio.get_running_loop().run_in_executor(pool, abs, -3)
        assert asyncio.run(main()) == 3

def test_by_path():
    spec = importlib.util.spec_from_file_location("__mp_main__", sys.modules["__main__"].__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""


def test_a_process_loads_the_main_module_again(tmp_path: Path) -> None:
    """Regression: anyio's worker processes, which load it by its path, all failed: it was the harness's own and is part of a package."""
    (tmp_path / "test_main.py").write_text(MAIN_AGAIN)
    with Session(scale=1.0) as session:
        runner = suite.Runner(session, "*", 60.0, foreign=Foreign("sample", tmp_path, ("*.py",)))
        for name in ("plain", "guest/poll"):
            found = runner.module(session.contender(name), "test_main.py")
            assert [test.outcome for test in found.values()] == ["pass", "pass"], found


def run_once(harness: Callable[..., Ran], folder: Path, body: str) -> Ran:
    """A suite of one test under plain and guest/poll; its `body` knows `guest`, and `seen(name)`: was it asked before?"""
    (folder / "test_one.py").write_text(
        "import asyncio, pathlib, sys\n"
        "def seen(name):\n"
        f"    path = pathlib.Path({str(folder)!r}, name)\n    there = path.exists()\n    path.touch()\n    return there\n"
        "def test_a():\n    asyncio.run(asyncio.sleep(0))\n    guest = 'asyncio_guest' in sys.modules\n"
        f"    {body}\n"
    )
    return harness("suite", "pytest", "guest/poll", "--folder", str(folder), "--results", str(folder / "out"))


def test_who_was_flaky_is_told(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    """Regression: a test that failed once on plain asyncio read as if the guest had failed it."""
    ran = run_once(harness, tmp_path, "assert guest or seen('plain')")
    assert ran.code == results.INCONCLUSIVE, ran.out + ran.err
    assert "flaky guest/poll test_one.py::test_a: plain fail" in ran.out and "here pass" in ran.out


def test_where_plain_differs_from_itself_nobody_is_blamed(tmp_path: Path, harness: Callable[..., Ran]) -> None:
    """Regression: plain failed and the guest passed, then the other way round: that was told as the guest's."""
    ran = run_once(harness, tmp_path, "assert seen(str(guest)) != guest")
    assert ran.code == results.INCONCLUSIVE and "flaky guest/poll test_one.py::test_a" in ran.out, ran.out + ran.err
