"""``harness list --coverage``: items, their cases, and what each case is shown to reject.

Shown means by a fault of `selftest` whose detector it is (with the verdict of the last selftest, where there is one)
or by a peer that fails it, in the last results or, by its file of expectations, in those that were seen before.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import expectations, results, tree
from .selftest import loops
from .selftest.mutants import load as load_mutants
from .tree import UsageError
from .verdicts import BAD


def proved(folder: Path) -> dict[str, str]:
    """Fault -> its verdict in the last selftest."""
    path = folder / "selftest.json"
    if not path.exists():
        return {}
    return {fault["name"]: str(fault["verdict"]) for fault in results.read(path, "selftest")["faults"]}


def peers(folder: Path, cases: Iterable[str]) -> dict[str, list[str]]:
    """Case -> the peers that fail it in the last results, then those that are expected to."""
    path = folder / "conformance.json"
    cells = results.read(path)["cells"] if path.exists() else []
    cells = [cell for cell in cells if cell["contender"].startswith("peer/") and cell["behaviour"] != "NOTRUN"]
    found: dict[str, list[str]] = {}
    for cell in cells:
        if cell["behaviour"] in BAD or cell["teardown"]:
            found.setdefault(cell["case"], []).append(cell["contender"])
    ran = {(cell["case"], cell["contender"]) for cell in cells}
    for one in expectations.load():
        if one.contender.startswith("peer/") and (set(one.behaviour) & set(BAD) or one.teardown):
            for case in cases:
                if fnmatch.fnmatchcase(case, one.case) and (case, one.contender) not in ran:
                    words = found.setdefault(case, [])
                    if (word := f"{one.contender} (expected)") not in words:
                        words.append(word)
    return found


def coverage(cases: dict[str, Any], patterns: Iterable[str], folder: Path | None = None) -> list[dict[str, Any]]:
    """Each item of the catalogue that the globs (items, groups or cases) mean, with its cases.  Raises UsageError."""
    folder = folder or tree.root() / "results" / "latest"
    try:
        catalogue = tree.scenarios("catalogue").load()
    except OSError as error:
        raise UsageError(f"the catalogue is not there: {error}") from error
    verdicts, failing = proved(folder), peers(folder, cases)
    by_case: dict[str, list[str]] = {}
    for fault in (*load_mutants().values(), *loops.load().values()):
        if fault.case is not None:
            by_case.setdefault(fault.case, []).append(fault.name)
    patterns = [p.rpartition("::")[2] or "*" for p in patterns] or ["*"]
    found = []
    for item in catalogue.values():
        ids = [id for id, case in cases.items() if case.item == item.id]
        if not any(
            fnmatch.fnmatchcase(name, p) or p == item.id.partition(".")[0] for p in patterns for name in (item.id, *ids)
        ):
            continue
        found.append(
            {
                "item": item.id,
                "text": item.text,
                "reports": item.reports,
                "cases": [
                    {
                        "id": id,
                        "level": cases[id].level,
                        "tier": cases[id].tier,
                        "rejects": cases[id].rejects,
                        "mutants": by_case.get(id, []),
                        "verdicts": {name: verdicts[name] for name in by_case.get(id, []) if name in verdicts},
                        "peers": failing.get(id, []),
                    }
                    for id in ids
                ],
            }
        )
    if not found:
        raise UsageError(f"no item of the catalogue is meant by {' '.join(patterns)}")
    return found


def show(found: list[dict[str, Any]], as_json: bool) -> int:
    """Print it; 0."""
    if as_json:
        print(json.dumps({"items": found}, indent=1))
        return results.OK
    shown = total = 0
    for item in found:
        print(f"{item['item']}  {item['text']}" + ("" if item["cases"] else "  [no case]"))
        for case in item["cases"]:
            total += 1
            words = [f"mutant {name} ({case['verdicts'].get(name, 'not run here')})" for name in case["mutants"]]
            words += case["peers"]
            shown += bool(words)
            print(f"    {case['id']}: " + (", ".join(words) or case["rejects"] or "nothing named"))
    covered = sum(bool(item["cases"]) for item in found)
    print(f"{covered} of {len(found)} items have cases; {shown} of {total} cases reject a mutant or a peer")
    return results.OK
