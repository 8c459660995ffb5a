"""The published results: copied from ``results/latest`` into ``results/DATE``, and looked at whether they still hold.

Published results name the commit that they were measured at: one without changes beside it, an ancestor of what is
checked out.  They are current while nothing in `MEASURED` has changed since.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import junit, page, report, results, tree
from .tree import UsageError

MEASURED = ("guest", "backends", "scenarios")
"""The folders whose change makes results outdated."""
FILES = {"conformance.json": "conformance", "bench.json": "bench", "test_asyncio.json": "test_asyncio"}
"""Results files and their schemas; the first must be there."""


ENDED_WRONG = (results.CRASHED, results.USAGE, results.NOTHING_RAN)
"""Exit codes of runs that say nothing about what they ran: the harness failed, or not everything ran that can."""


def _git(top: Path, *arguments: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=top,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"git cannot be asked about {top}: {error}") from error
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()


def faults(meta: dict[str, Any], top: Path) -> list[str]:
    """Why results with this `meta` cannot stand as published; empty when they can."""
    commit = meta["commit"]
    found = []
    if not commit:
        return ["they name no commit"]
    if meta["dirty"]:
        found.append(f"they were measured at {commit[:12]} with changes that were not committed")
    if meta["interrupted"]:
        found.append("their run was interrupted")
    if meta.get("shard"):
        found.append(f"they are a part, shard {meta['shard']}")
    if meta.get("exit_code") in ENDED_WRONG:
        found.append(f"their run ended with {meta['exit_code']}")
    code, _ = _git(top, "merge-base", "--is-ancestor", commit, "HEAD")
    if code:
        found.append(f"{commit[:12]} is no ancestor of what is checked out")
    return found


def apart(documents: dict[str, dict[str, Any]]) -> list[str]:
    """The results files that are of another commit than the first."""
    commits = {name: document["meta"]["commit"] for name, document in documents.items()}
    return [name for name, commit in commits.items() if commit != commits["conformance.json"]]


def shallow(top: Path) -> bool:
    """Does this clone lack a part of its history?"""
    return _git(top, "rev-parse", "--is-shallow-repository") == (0, "true")


def later_changes(commit: str, top: Path, folders: Sequence[str] = MEASURED) -> list[str]:
    """Files in `folders`, but their tests, that differ between `commit` and what is checked out.  Raises UsageError."""
    code, out = _git(top, "diff", "--name-only", commit, "HEAD", "--", *folders, ":(exclude,glob)**/tests/**")
    if code:
        raise UsageError(f"git diff against {commit[:12]}: {out}")
    return out.splitlines()


def published(folder: Path) -> list[Path]:
    """The folders of published results, the newest last."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and path.name not in ("latest", "again") and (path / "conformance.json").is_file()
    )


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """The results files of a folder by name.  Raises UsageError for a broken one."""
    return {
        name: results.read(folder / name, schema)
        for name, schema in FILES.items()
        if name == "conformance.json" or (folder / name).exists()
    }


def slim(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Without what nobody reads in a repository: the counters of cells that passed, the raw samples of benchmarks."""
    if name == "conformance.json":
        cells = [
            {**cell, "detail": {k: v for k, v in cell["detail"].items() if k == "measures"}}
            if cell["behaviour"] == "PASS" and not cell["teardown"] and cell["expected"] is None
            else cell
            for cell in document["cells"]
        ]
        return {**document, "cells": cells}
    if name == "bench.json":
        return {**document, "cells": [{k: v for k, v in cell.items() if k != "raw"} for cell in document["cells"]]}
    return document


def publish(latest: Path, target: Path, top: Path) -> list[Path]:
    """Write the results of `latest`, with their reports, to the new folder `target`; the paths written.

    Raises UsageError, and writes nothing, when they cannot stand (see `faults`) or measured code has changed since.
    """
    documents = load(latest)
    for name, document in documents.items():
        why = faults(document["meta"], top)
        if not why and (changed := later_changes(document["meta"]["commit"], top)):
            why = [f"{', '.join(changed[:5])} changed since {document['meta']['commit'][:12]}"]
        if why:
            raise UsageError(f"{latest / name} cannot be published: {'; '.join(why)}")
    if others := apart(documents):
        raise UsageError(f"{', '.join(others)} in {latest} cannot be published: of another commit than conformance.json")
    documents = {name: slim(name, document) for name, document in documents.items()}
    texts = {
        "report.html": page.render(
            documents["conformance.json"], documents.get("bench.json"), documents.get("test_asyncio.json")
        ),
        "conformance.md": report.markdown(documents["conformance.json"]),
        "junit.xml": junit.render(documents["conformance.json"]),
    }
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (target / name).unlink(missing_ok=True)
    for name, document in documents.items():
        results.write(target / name, document, FILES[name])
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")
    return [target / name for name in (*documents, *texts)]


FINGERPRINT = re.compile(r'<meta name="results-(\w+)" content="(\w+)">')
"""What a report says about the results that it shows; `page.render` writes it."""


def check(folder: Path, top: Path) -> tuple[list[str], list[str]]:
    """Look at all that is published in `folder`: sentences about what is wrong with it, and about what is outdated."""
    wrong, outdated = [], []
    for one in published(folder):
        documents = load(one)
        for name, document in documents.items():
            wrong += [f"{one.name}/{name}: {why}" for why in faults(document["meta"], top)]
        wrong += [f"{one.name}/{name} is of another commit than conformance.json" for name in apart(documents)]
        text = one / "report.html"
        if not text.is_file():
            wrong.append(f"{one.name} has no report.html")
            continue
        shown = dict(FINGERPRINT.findall(text.read_text(encoding="utf-8")))
        for name, schema in FILES.items():
            if shown.get(schema) != (page.fingerprint(documents[name]) if name in documents else None):
                wrong.append(f"{one.name}/report.html is of another run than {name}")
    if not wrong and (folders := published(folder)):
        newest = folders[-1]
        for name, document in load(newest).items():
            changed = later_changes(document["meta"]["commit"], top)
            if changed:
                outdated.append(
                    f"{newest.name}/{name} is of {document['meta']['commit'][:12]}; since then {len(changed)} file(s) "
                    f"of {', '.join(MEASURED)} changed: {', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''}"
                )
    return wrong, outdated


def main(options: Any) -> int:
    """``harness report``; the exit code."""
    top = tree.root()
    home = top / "results"
    if options.check:
        wrong, outdated = check(home, top)
        for line in wrong + outdated:
            print(line)
        if not published(home):
            print("nothing is published")
            return results.NOTHING_RAN
        if not wrong and not outdated:
            print(f"{published(home)[-1].name} is current")
        return results.USAGE if wrong else results.STALE if outdated else results.OK
    source = options.file or home / "latest" / "conformance.json"
    if source.is_dir():
        source /= "conformance.json"
    if options.publish is not None:
        if options.html or options.junit or options.markdown or source.name != "conformance.json":
            raise UsageError("--publish takes the results of a folder and writes all reports beside them")
        if not tree.IN_TREE:
            raise UsageError("--publish belongs into the source tree")
        name = options.publish or results.read(source)["meta"]["date"].partition("T")[0]
        if "/" in name or name in ("latest", "again", ".", ".."):
            raise UsageError(f"{name!r} is no name for published results")
        for path in publish(source.parent, home / name, top):
            print(f"{path.relative_to(top)}: {path.stat().st_size:,} bytes")
        return results.OK
    document = results.read(source)
    beside = {
        schema: results.read(source.parent / name, schema) if (source.parent / name).exists() else None
        for name, schema in FILES.items()
        if schema != "conformance"
    }
    every = not (options.html or options.junit or options.markdown)
    targets: list[tuple[Path | None, Callable[[], str]]] = [
        (
            options.html or (source.with_name("report.html") if every else None),
            lambda: page.render(document, beside["bench"], beside["test_asyncio"]),
        ),
        (options.junit or (source.with_name("junit.xml") if every else None), lambda: junit.render(document)),
        (
            options.markdown or (source.with_name("conformance.md") if every else None),
            lambda: report.markdown(document),
        ),
    ]
    for target, make in targets:
        if target is None:
            continue
        text = make()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {target}: {error}") from error
        print(f"{target}: {target.stat().st_size:,} bytes")
    return results.OK


def add_arguments(verb: Any) -> None:
    """The arguments of ``harness report``."""
    add = verb.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="results, or their folder (default: results/latest)")
    add("--html", type=Path, metavar="FILE", help="write one self-contained HTML page here")
    add("--junit", type=Path, metavar="FILE", help="write JUnit XML here")
    add("--markdown", type=Path, metavar="FILE", help="write Markdown here")
    add(
        "--publish",
        nargs="?",
        const="",
        metavar="NAME",
        help="put the results and their reports into results/NAME (default: their date), to be committed",
    )
    add("--check", action="store_true", help="are the published results there (else 5), right (else 2) and current (else 7)?")


EPILOG = """\
Without --html, --junit and --markdown all three are written beside FILE: report.html, junit.xml, conformance.md.
bench.json and test_asyncio.json in FILE's folder are shown too.

examples:
  report                              results/latest/report.html and its like
  report r.json --html out.html       a results file of yours
  report --publish                    results/2026-11-25/..., of a commit without changes beside it
  report --check                      what is published, is it of this code?

"""
