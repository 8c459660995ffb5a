"""The HTML report in a real browser, JUnit, and what is published."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import cli, junit, page, publish, report, results, tree
from harness.tests.conftest import CASES, command, environment, make
from harness.tree import UsageError
from harness.verdicts import Cell

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><!-- ]]> & {{ 7 * 7 }} \x01 \N{SNOWMAN}"
LIMIT = 8_000_000
"""Bytes of the page of a run of five thousand cells in which every twelfth has something to show."""
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
browser = pytest.mark.skipif(BROWSER is None, reason="needs the package chromium")


def log(events: list[list[Any]], actor: str = "main") -> dict[str, Any]:
    return {actor: events}


def sample(contenders: int = 4, seed: int = 1) -> dict[str, Any]:
    """A document with a cell of each kind: every case of ours under `contenders` contenders."""
    chance = random.Random(seed)
    names = ["plain", "guest/poll", "guest/tk", "peer/qasync", *(f"guest/h{n}" for n in range(contenders - 4))]
    plain: list[list[Any]] = [["step", n] for n in range(12)]
    cells: list[Cell] = []
    for name in names[:contenders]:
        for number, (id, case) in enumerate(tree.load_cases().items()):
            fields: dict[str, Any] = {
                "contender": name,
                "case": id,
                "level": case.level,
                "rerun": f"python3 -m harness run {name}::{id}",
                "seconds": round(chance.random(), 3),
                "engine_ran": None if name == "plain" else "fast",
            }
            kind = (number + len(name)) % 12 if name != "plain" else 1
            if kind == 0:
                theirs = [*plain[:7], ["step", "other"], *plain[8:]]
                detail = {
                    "events": {**log(theirs), **log([["same", None]], "second")},
                    "plain_events": {**log(plain), **log([["same", None]], "second")},
                    "stderr": "x" * 20_000 + "\nlast line",
                    "traceback": "Traceback (most recent call last):\n  ...",
                    "measures": [{"name": "late", "value": 0.31, "unit": "ms"}],
                    "counters": {"turns": 3, "wakes": 0},
                }
                reason = "actor 'main', event 8: plain asyncio has step(7), it has step('other')"
                cells.append(make("FAIL", [], reason=reason, detail=detail, **fields))
            elif kind == 2 and number % 5 == 0:
                cells.append(make("UNSUPPORTED", None, reason="lacks window", **fields))
            else:
                cells.append(make("PASS", [], **fields))
    return results.document(cells, exit_code=3, seconds=12.0)


def hostile() -> dict[str, Any]:
    """One cell of which every text tries to leave its place."""
    cell = make(
        "FAIL",
        ["LEAK_FD"],
        contender="peer/x",
        reason=HOSTILE,
        toolkit_version=HOSTILE,
        rerun=HOSTILE,
        expected={
            "behaviour": [HOSTILE],
            "teardown": [],
            "reason": HOSTILE,
            "issue": HOSTILE,
            "since": "s",
            "stale": True,
        },
        detail={
            "events": log([[HOSTILE, HOSTILE]], HOSTILE),
            "plain_events": log([["a", 1]], HOSTILE),
            "stderr": HOSTILE,
            "stdout": HOSTILE,
            "traceback": HOSTILE,
            "unclean": {"LEAK_FD": HOSTILE},
            "engine_reason": HOSTILE,
            "measures": [{"name": HOSTILE, "value": 1.0, "unit": HOSTILE}],
        },
    )
    other = make("NOTRUN", None, contender=HOSTILE, case="T.02-y", reason=HOSTILE)
    unsupported = make("UNSUPPORTED", None, case="T.03-z", reason=HOSTILE)
    return results.document([cell, other, unsupported], exit_code=3)


class Tags(html.parser.HTMLParser):
    """The page's elements, to see what a browser would load and whether they are balanced."""

    VOID = frozenset("meta link input img br".split())

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]} at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    return tags


# -- without a browser


def test_page_is_one_file_and_well_formed() -> None:
    document = sample()
    tags = parse(page.render(document))
    for tag, attributes in tags.seen:
        assert tag not in ("img", "iframe", "object", "embed", "audio", "video")
        assert "src" not in attributes
        if tag == "link":
            assert attributes["href"] == "data:,"
        elif "href" in attributes:
            assert str(attributes["href"]).startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    ids = [a["id"] for _, a in tags.seen if "id" in a]
    assert len(ids) == len(set(ids))
    places = {f"#{id}" for id in ids}
    assert {a["href"] for tag, a in tags.seen if tag == "a"} <= places, "a link leads nowhere"


def test_nothing_that_a_cell_printed_becomes_markup() -> None:
    text = page.render(hostile())
    tags = parse(text)
    assert "img" not in {tag for tag, _ in tags.seen}
    assert len([tag for tag, _ in tags.seen if tag == "script"]) == 2
    assert "".join(tags.text).count("onerror=") >= 12
    assert "49" not in "".join(t for t in tags.text if "onerror" in t), "a template in a reason was evaluated"


def test_first_difference_is_marked_once() -> None:
    plain = [["step", n] for n in range(40)]
    theirs = [*plain[:30], *plain[31:]]
    cell = make(
        "FAIL", [], detail={"events": {"b": [["x", 1]], "a": theirs}, "plain_events": {"a": plain, "b": [["x", 2]]}}
    )
    shown = page.logs.compare(cell)
    assert shown is not None
    rows = [(actor["actor"], row) for actor in shown["actors"] for row in actor["rows"] if row["mark"]]
    marks = [(name, row["number"], row["mark"], row["left"], row["right"]) for name, row in rows]
    assert marks[0] == ("a", 31, "first", "step  30", "")
    assert [m[2] for m in marks] == ["first", "other"], "what follows the missing event is lined up again"
    assert shown["actors"][0]["skipped"] == 24


def test_log_of_a_killed_cell_is_compared_as_far_as_it_goes() -> None:
    lines = "".join(json.dumps({"actor": "a", "event": "e", "data": n}) + "\n" for n in range(3))
    plain = {"a": [["e", n] for n in range(5)]}
    shown = page.logs.compare(make("TIMEOUT", None, detail={"last_events": lines, "plain_events": plain}))
    assert shown is not None and shown["two"]
    assert [row["mark"] for row in shown["actors"][0]["rows"]] == ["", "", "", "first", "other"]
    cut = page.logs.compare(make("TIMEOUT", None, detail={"last_events": "[...]\n" + lines, "plain_events": plain}))
    assert cut is not None and not cut["two"], "without the log's beginning nothing can be compared"


def test_five_thousand_cells_stay_reasonable() -> None:
    document = sample(contenders=5000 // len(tree.load_cases()) + 1)
    assert len(document["cells"]) > 5000
    text = page.render(document)
    assert len(text.encode()) < LIMIT
    assert all(cell["case"] in text for cell in document["cells"])


def test_other_results_are_shown(tmp_path: Path) -> None:
    meta = results.meta(exit_code=0)
    bench = {
        "meta": {**meta, "blocks": 1, "time_factor": 1.0},
        "cells": [
            {
                "contender": "guest/poll",
                "metric": "echo",
                "unit": "op/s",
                "higher_is_better": True,
                "samples": [1234.5],
                "ratio_to_plain": {"estimate": 0.5, "low": 0.4, "high": 0.6, "verdict": "REGRESSED"},
                "bar": {"met": False},
            },
            {
                "contender": "bare/tk",
                "metric": "echo",
                "unit": "op/s",
                "higher_is_better": True,
                "samples": [],
                "ratio_to_plain": None,
                "reason": "no display",
            },
        ],
    }
    run = {
        "contender": "guest/poll",
        "outcomes": {"pass": 3},
        "seconds": 1.0,
        "tests_with_turns": {"all": 2},
        "tests_with_fast": 1,
        "differences": {"lost": ["test_x.T.test_lost"]},
        "flaky": [],
        "known": {},
    }
    text = page.render(sample(2), bench, {"meta": meta, "runs": [run], "not_run": {"guest/tk": "no Tk"}})
    for word in ("1,234", "0.50×", "0.40–0.60", "below its bar", "no display", "test_x.T.test_lost", "no Tk"):
        assert word in text, word


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("conformance.json", None, "cannot read results"),
        ("conformance.json", "{", "is not JSON"),
        ("conformance.json", '{"schema": "asyncio-guest/conformance@1"}', "does not fit"),
        ("bench.json", "[]", "does not fit"),
        ("test_asyncio.json", "\0", "is not JSON"),
    ],
)
def test_broken_input_is_2(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if name != "conformance.json":
        results.write(tmp_path / "conformance.json", sample(1))
    if text is not None:
        (tmp_path / name).write_text(text)
    done = run("report", str(tmp_path), "--html", str(tmp_path / "out.html"))
    assert done.returncode == 2, done.stderr
    assert says in done.stderr and name in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.html").exists()


def test_a_real_benchmark_fits_its_schema() -> None:
    """The rows are checked too: a schema's own ``$id`` once made its references lead nowhere."""
    about = {**results.meta(), "seconds": 1.0, "seed": 1, "blocks": 1, "time_factor": 1.0}
    cell: dict[str, Any] = {
        "contender": "plain", "metric": "echo", "unit": "op/s", "higher_is_better": True, "python": "3.11.2",
        "samples": [1.0], "blocks": [0], "turns_per_op": None, "host_waits_per_op": 2.0, "ratio_to_plain": None,
    }  # fmt: skip
    document = {"schema": "asyncio-guest/bench@1", "meta": about, "cells": [cell]}
    results.validate(document, "bench")
    cell["samples"] = ["fast"]
    with pytest.raises(UsageError, match="asyncio-guest/bench@1 at cells/0/samples/0"):
        results.validate(document, "bench")


def test_report_writes_all_three_beside_the_results(tmp_path: Path) -> None:
    results.write(tmp_path / "conformance.json", sample(2))
    done = run("report", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"conformance.json", "report.html", "junit.xml", "conformance.md"}
    done = run("report", str(tmp_path / "conformance.json"), "--junit", str(tmp_path / "deep" / "j.xml"))
    assert done.returncode == 0 and (tmp_path / "deep" / "j.xml").is_file()
    assert run("report", str(tmp_path), "--html", str(tmp_path)).returncode == 2, "a folder cannot be written to"


def test_junit() -> None:
    root = ET.fromstring(junit.render(hostile()))
    assert [s.get("name") for s in root] == ["peer/x", junit.text(HOSTILE), "guest/poll"]
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None and failure.text is not None
    assert failure.get("type") == "stale expectation" and "again: " in failure.text
    document = sample()
    root = ET.fromstring(junit.render(document))
    for suite in root:
        mine = [c for c in document["cells"] if c["contender"] == suite.get("name")]
        assert int(suite.get("tests", "")) == len(mine)
        assert int(suite.get("failures", "")) == sum(c["behaviour"] == "FAIL" for c in mine)
        assert int(suite.get("skipped", "")) == sum(c["behaviour"] == "UNSUPPORTED" for c in mine)


def test_what_did_not_run_though_it_can_is_an_error_of_junit() -> None:
    """Regression: it was skipped, which is green."""
    details: list[dict[str, Any]] = [{}, {"runnable": True}, {"interrupted": True}]
    details += [{"runnable": False}, {"by_design": True}, {"shard": "1/2", "by_design": True}]
    made = [make("NOTRUN", None, case=f"T.0{n}-x", reason="why", detail=d) for n, d in enumerate(details)]
    (suite,) = ET.fromstring(junit.render(results.document(made, exit_code=5)))
    assert (suite.get("tests"), suite.get("errors"), suite.get("skipped"), suite.get("failures")) == ("6", "3", "3", "0")
    assert [case.get("name") for case in suite if case.find("error") is not None] == ["T.00-x", "T.01-x", "T.02-x"]


def test_a_contender_that_breaks_fails_its_tests(tmp_path: Path) -> None:
    """Regression: to pytest, and to what reads its JUnit, its cells were skipped."""
    junit_file = tmp_path / "j.xml"
    cell = ["harness.tests.faulty:fails::X.90-order", "--cases", str(CASES), "--results", str(tmp_path)]
    assert run("run", *cell, "--junit", str(junit_file)).returncode == results.NOTHING_RAN
    suite = ET.parse(junit_file).getroot().find("testsuite")
    assert suite is not None and (suite.get("failures"), suite.get("skipped")) == ("1", "0")


def test_what_nobody_looked_at_is_not_clean() -> None:
    """Regression: no teardown was shown as a clean one."""
    nothing: list[str] = []
    for behaviour in ("FAIL", "TIMEOUT"):
        for teardown, says in ((None, "not measured"), (nothing, "clean")):
            text = page.render(results.document([make(behaviour, teardown)], exit_code=3))
            assert f"<dt>Teardown</dt><dd>{says}</dd>" in text


def test_all_that_needs_attention_is_listed() -> None:
    """Regression: from the ninth on there was a number."""
    made = [make("FAIL", [], case=f"T.{n:02}-x", reason=f"reason {n}") for n in range(12)]
    tags = parse(page.render(results.document(made, exit_code=3)))
    links = [a["href"] for tag, a in tags.seen if tag == "a" and str(a.get("href")).startswith("#k0.T.")]
    assert {f"#k0.T.{n:02}-x" for n in range(12)} <= set(links[:12])


# -- in a browser


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=tree.TOP, env=environment(), capture_output=True, text=True, timeout=120
    )


PROBE = """
<script>
(function () {
  var problems = [], out = {};
  addEventListener("error", function (event) { problems.push(String(event.message || event.target.outerHTML)); }, true);
  addEventListener("securitypolicyviolation", function (event) {
    problems.push("policy: " + event.violatedDirective);
  });
  console.error = function () { problems.push(Array.prototype.join.call(arguments, " ")); };
  addEventListener("load", function () {
    var all = function (selector) { return Array.prototype.slice.call(document.querySelectorAll(selector)); };
    var visible = function (selector) {
      return all(selector).filter(function (e) { return e.getClientRects().length; }).length;
    };
    var set = function (id, value) {
      var element = document.getElementById(id);
      element.value = value;
      element.dispatchEvent(new Event(id === "f-q" ? "input" : "change", { bubbles: true }));
    };
    var key = function (name, element) {
      var event = new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true });
      (element || document.body).dispatchEvent(event);
    };
    var count = function () { return document.getElementById("f-count").value; };
    var steps = [STEPS], next = function () {
      var step = steps.shift();
      if (step) { try { step(); } catch (error) { problems.push(String(error)); } setTimeout(next, 200); return; }
      out.problems = problems;
      out.requests = performance.getEntriesByType("resource").map(function (e) { return e.name; });
      out.title = document.title;
      out.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
      var element = document.createElement("script");
      element.type = "application/json"; element.id = "probe";
      element.textContent = JSON.stringify(out).replace(/</g, "\\\\u003c");
      document.body.appendChild(element);
    };
    next();
  });
})();
</script>
"""


def drive(tmp_path: Path, text: str, steps: list[str], *options: str, fragment: str = "") -> dict[str, Any]:
    """Open the page in Chromium, run `steps` in it one after the other, and return what they put into ``out``.

    The page's own policy would not let the probe's script run: it is let in by its hash beside the others'.
    """
    assert BROWSER is not None
    probe = PROBE.replace("STEPS", ",".join(f"function () {{ {step} }}" for step in steps))
    body = probe.strip().removeprefix("<script>").removesuffix("</script>")
    digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src &#39;sha256-{digest}&#39; ", 1)
    text = text.replace("<style>", f"<script>{body}</script><style>", 1)
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=8000",
            "--dump-dom",
            *options,
            path.as_uri() + fragment,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    found = re.search(r'<script type="application/json" id="probe">(.*?)</script>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    out = dict(json.loads(found[1]))
    assert out["problems"] == []
    assert out["requests"] == []
    return out


@browser
def test_filters(tmp_path: Path) -> None:
    document = sample()
    cells = document["cells"]
    names = list(dict.fromkeys(c["contender"] for c in cells))
    out = drive(
        tmp_path,
        page.render(document),
        [
            "out.all = count();",
            "set('f-c', 'k1');",
            "out.who = count(); out.sections = visible('section.contender'); set('f-g', 'T');",
            "out.both = count(); set('f-v', 'bad');",
            "out.three = count(); out.open = visible('details.cell > summary');"
            "document.getElementById('f-clear').click();",
            "out.clear = count(); set('f-v', 'UNSUPPORTED');",
            "out.unsupported = count(); set('f-v', ''); set('f-q', 'EQUAL deadlines');",
            "out.text = count(); out.items = visible('ul.list > li'); key('Escape');",
            "out.escaped = count(); key('/'); out.focus = document.activeElement.id;",
            "set('f-q', 'zzz qqq');",
            "out.none = count(); out.said = visible('#none');",
        ],
    )
    total = len(cells)

    def of(right: Callable[[dict[str, Any]], object]) -> str:
        return f"{sum(map(bool, map(right, cells)))} of {total} cells"

    who = names[1]
    assert out["all"] == out["clear"] == out["escaped"] == f"{total} cells"
    assert out["who"] == of(lambda c: str(c["contender"]) == who) and out["sections"] == 1
    assert out["both"] == of(lambda c: c["contender"] == who and c["case"][0] == "T")
    assert out["three"] == of(lambda c: c["contender"] == who and c["case"][0] == "T" and c["behaviour"] == "FAIL")
    assert out["open"] == int(out["three"].split()[0]) > 0
    assert out["unsupported"] == of(lambda c: c["behaviour"] == "UNSUPPORTED")
    assert int(out["text"].split()[0]) >= len(names) and out["items"] > 0
    assert out["focus"] == "f-q"
    assert out["none"].startswith("0 of") and out["said"] == 1


@browser
def test_drill_down_from_the_matrix(tmp_path: Path) -> None:
    document = sample()
    out = drive(
        tmp_path,
        page.render(document),
        [
            "document.querySelector('.matrix td a[data-c=k2][data-g=C]').click();",
            "out.count = count(); out.focus = document.activeElement.tagName;"
            "var cell = all('#k2-C details.cell')[0]; cell.firstElementChild.click(); out.open = cell.open;"
            "out.text = cell.textContent; out.marked = cell.querySelectorAll('tr.first').length;"
            "out.again = cell.querySelector('.command code').textContent;",
            "var link = all('#k2-C ul.list a')[0]; link.click();"
            "out.panel = link.parentNode.textContent; out.passed = link.textContent;",
            "var first = document.querySelector('.matrix td a'); first.focus();"
            "key('ArrowRight', first); key('ArrowDown', document.activeElement);"
            "out.moved = document.activeElement.dataset.c + document.activeElement.dataset.g;",
            "document.getElementById('theme').click(); out.theme = document.documentElement.dataset.theme;"
            "out.paper = getComputedStyle(document.body).backgroundColor; document.getElementById('theme').click();"
            "out.night = getComputedStyle(document.body).backgroundColor;",
        ],
    )
    bad = next(
        c
        for c in document["cells"]
        if c["contender"] == "guest/tk" and c["case"][0] == "C" and c["behaviour"] == "FAIL"
    )
    case = tree.load_cases()[bad["case"]]
    assert out["open"] is True and out["focus"] == "SUMMARY" and out["marked"] == 1
    for word in (
        case.description,
        bad["reason"],
        "plain asyncio",
        "last line",
        "Standard error",
        "turns 3",
        case.level,
    ):
        assert word in out["text"], word
    assert out["again"] == bad["rerun"]
    passed = tree.load_cases()[out["passed"]]
    assert passed.description in out["panel"] and f"run guest/tk::{passed.id}" in out["panel"]
    assert out["moved"] == "k1" + next(g for g in report.groups([make(case=f"{x}.01-x") for x in "TC"]) if g != "T")
    assert out["theme"] == "light" and out["paper"] != out["night"]


@browser
def test_a_link_to_a_cell_opens_it(tmp_path: Path) -> None:
    document = sample()
    bad = next(c for c in document["cells"] if c["behaviour"] == "FAIL")
    name = f"k1.{bad['case']}"
    step = f"var cell = document.getElementById('{name}');"
    step += "out.open = cell.open; out.seen = cell.getClientRects().length;"
    assert bad["contender"] == "guest/poll"
    out = drive(tmp_path, page.render(document), [step], fragment=f"#{name}")
    assert out["open"] is True and out["seen"] == 1


@browser
def test_hostile_text_stays_text(tmp_path: Path) -> None:
    out = drive(
        tmp_path,
        page.render(hostile()),
        [
            "all('details').forEach(function (e) { e.open = true; }); out.images = all('img').length;"
            "out.seen = document.querySelector('details.cell').textContent;"
        ],
    )
    assert out["images"] == 0 and "owned" not in out["title"]
    assert HOSTILE.replace("\x01", "") in out["seen"].replace("\x01", "").replace("\ufffd", "")


@browser
def test_a_phone_needs_no_sideways_scrolling(tmp_path: Path) -> None:
    out = drive(
        tmp_path,
        page.render(sample()),
        ["all('details').forEach(function (e) { e.open = true; });"],
        "--window-size=500,900",
    )
    assert out["wide"] is False


def test_readable_without_scripts() -> None:
    """What only scripts serve is hidden without them, and everything else is in the text."""
    document = sample()
    text = re.sub(r"<script>.*?</script>", "", page.render(document), flags=re.S)
    said = "".join(parse(text).text)
    for cell in document["cells"]:
        assert cell["case"] in said
        if cell["behaviour"] != "PASS":
            assert cell["reason"] in said
        if cell["behaviour"] == "FAIL":
            assert cell["rerun"] in said
    assert "html:not(.js) .js-only { display: none" in text.replace("[hidden], ", "")


# -- what is published


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a commit in which ``guest/`` has a file."""
    top = tmp_path / "repository"
    (top / "guest").mkdir(parents=True)
    (top / "guest" / "a.c").write_text("1\n")
    git(top, "init", "-q")
    commit(top)
    return top


def git(top: Path, *arguments: str) -> str:
    options = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *options, *arguments], cwd=top, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(top: Path) -> str:
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "a commit", "--allow-empty")
    return git(top, "rev-parse", "HEAD")


def measured(top: Path, sha: str | None, **about: Any) -> Path:
    """Results in `top` that say they were measured at `sha`."""
    document = sample(1)
    document["meta"].update(commit=sha, dirty=False, **about)
    results.write(top / "results" / "latest" / "conformance.json", document)
    return top / "results" / "latest"


def test_publish_and_check(repository: Path) -> None:
    home = repository / "results"
    assert publish.check(home, repository) == ([], [])
    assert publish.published(home) == []
    sha = git(repository, "rev-parse", "HEAD")
    latest = measured(repository, sha)
    written = publish.publish(latest, home / "2026-01-01", repository)
    assert {p.name for p in written} == {"conformance.json", "report.html", "conformance.md", "junit.xml"}
    (repository / "README").write_text("words\n")
    (repository / "guest" / "tests").mkdir()
    (repository / "guest" / "tests" / "test_a.py").write_text("assert True\n")
    git(repository, "add", "guest/tests")
    commit(repository)
    assert publish.check(home, repository) == ([], []), "a change elsewhere, or in tests, does not outdate them"
    (repository / "guest" / "a.c").write_text("2\n")
    commit(repository)
    wrong, outdated = publish.check(home, repository)
    assert not wrong and len(outdated) == 1 and "guest/a.c" in outdated[0]
    with pytest.raises(UsageError, match="guest/a.c changed since"):
        publish.publish(latest, home / "2026-01-02", repository)
    assert not (home / "2026-01-02").exists()


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"dirty": True}, "with changes"),
        ({"interrupted": True}, "was interrupted"),
        ({"commit": None}, "name no commit"),
        ({"commit": "0" * 40}, "is no ancestor"),
        ({"shard": "1/2"}, "are a part, shard 1/2"),
        *(({"exit_code": code}, f"ended with {code}") for code in (1, 2, 5)),
    ],
)
def test_what_cannot_be_published(repository: Path, about: dict[str, Any], says: str) -> None:
    latest = measured(repository, git(repository, "rev-parse", "HEAD"))
    document = results.read(latest / "conformance.json")
    document["meta"].update(about)
    results.write(latest / "conformance.json", document)
    with pytest.raises(UsageError, match=says):
        publish.publish(latest, repository / "results" / "x", repository)
    shutil.copytree(latest, repository / "results" / "2026-01-01")
    wrong, _ = publish.check(repository / "results", repository)
    assert any(says in line for line in wrong) and any("no report.html" in line for line in wrong)


def test_a_report_of_another_run_is_found(repository: Path) -> None:
    home = repository / "results"
    first = git(repository, "rev-parse", "HEAD")
    publish.publish(measured(repository, first), home / "2026-01-01", repository)
    document = results.read(home / "2026-01-01" / "conformance.json")
    document["meta"]["commit"] = commit(repository)
    results.write(home / "2026-01-01" / "conformance.json", document)
    wrong, _ = publish.check(home, repository)
    assert len(wrong) == 1 and "of another run" in wrong[0]


def test_a_report_of_another_run_at_the_same_commit_is_found(repository: Path) -> None:
    """Regression: the commit was all that was looked at."""
    home = repository / "results"
    published = home / "2026-01-01"
    publish.publish(measured(repository, git(repository, "rev-parse", "HEAD")), published, repository)
    assert publish.check(home, repository) == ([], [])
    document = results.read(published / "conformance.json")
    document["cells"][0]["seconds"] += 1
    results.write(published / "conformance.json", document)
    wrong, _ = publish.check(home, repository)
    assert wrong == ["2026-01-01/report.html is of another run than conformance.json"]


def test_parts_of_other_commits_are_not_published_together(repository: Path) -> None:
    """Regression: each was looked at alone."""
    home = repository / "results"
    first = git(repository, "rev-parse", "HEAD")
    latest = measured(repository, commit(repository))
    meta = {**results.meta(exit_code=0, tier="full"), "commit": first, "dirty": False, "interrupted": False}
    suite = {"schema": "asyncio-guest/test_asyncio@1", "meta": meta, "not_run": {}, "runs": []}
    results.write(latest / "test_asyncio.json", suite, "test_asyncio")
    with pytest.raises(UsageError, match="test_asyncio.json in .* another commit than conformance.json"):
        publish.publish(latest, home / "x", repository)
    assert not (home / "x").exists()
    meta["commit"] = commit_of(latest)
    results.write(latest / "test_asyncio.json", suite, "test_asyncio")
    publish.publish(latest, home / "x", repository)
    (home / "x" / "test_asyncio.json").unlink()
    wrong, _ = publish.check(home, repository)
    assert wrong == ["x/report.html is of another run than test_asyncio.json"]


def commit_of(folder: Path) -> Any:
    return results.read(folder / "conformance.json")["meta"]["commit"]


def test_nothing_published_is_no_pass(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: `report --check` ended with 0."""
    monkeypatch.setattr(tree, "root", lambda: repository)
    options = cli.build_parser().parse_args(["report", "--check"])
    assert publish.main(options) == results.NOTHING_RAN
    latest = measured(repository, git(repository, "rev-parse", "HEAD"))
    publish.publish(latest, repository / "results" / "2026-01-01", repository)
    assert publish.main(options) == results.OK


def test_what_this_repository_publishes() -> None:
    """Published results are right: of a commit without changes that is an ancestor, with their own report.

    Whether they are current is said by skipping, for a commit that changes measured code cannot have been measured yet;
    ``harness report --check`` answers it by its exit code, for whoever releases.
    """
    home = tree.TOP / "results"
    if not publish.published(home):
        pytest.skip("nothing is published")
    if not (tree.TOP / ".git").exists():
        pytest.skip("not in a repository")
    if publish.shallow(tree.TOP):
        pytest.skip("the clone lacks the history that they are of")
    wrong, outdated = publish.check(home, tree.TOP)
    assert not wrong
    if outdated:
        pytest.skip("outdated: " + "; ".join(outdated))
