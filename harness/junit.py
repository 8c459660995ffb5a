"""Results as JUnit XML: a suite a contender, a test a cell."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from . import report, results
from .verdicts import Cell

_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(value: object) -> str:
    """`value` without the characters that XML cannot hold."""
    return _ILLEGAL.sub("\ufffd", str(value))


def _case(cell: Cell) -> ET.Element:
    element = ET.Element("testcase", classname=text(cell.contender), name=text(cell.case), time=f"{cell.seconds:.3f}")
    said = text(cell.reason + report.note(cell))
    if results.unexpected(cell) or (cell.expected is not None and cell.expected["stale"]):
        what = "stale expectation" if cell.expected is not None else report.verdict(cell)
        failure = ET.SubElement(element, "failure", type=text(what), message=said[:400])
        failure.text = "\n".join([said, text(cell.detail.get("traceback", "")), f"again: {text(cell.rerun)}"])
    elif results.unknown(cell):
        ET.SubElement(element, "error", type=text(report.verdict(cell)), message=said[:400]).text = f"again: {text(cell.rerun)}"
    elif cell.behaviour in ("UNSUPPORTED", "NOTRUN") or cell.expected is not None:
        ET.SubElement(element, "skipped", type=text(report.verdict(cell)), message=said[:400])
    elif cell.reason:
        ET.SubElement(element, "system-out").text = f"{report.verdict(cell)}: {said}"
    return element


def render(document: dict[str, Any]) -> str:
    """The document as JUnit XML.

    What is expected to fail is skipped there, as is what cannot run here; a stale expectation fails.  What did not run
    though it can, or because the run ended, is an error, for nobody knows what it would have done.
    """
    by: dict[str, list[Cell]] = {}
    for data in document["cells"]:
        cell = Cell(**data)
        by.setdefault(cell.contender, []).append(cell)
    root = ET.Element("testsuites", name="asyncio-guest")
    for contender, cells in by.items():
        cases = [_case(cell) for cell in cells]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=text(contender),
            tests=str(len(cases)),
            failures=str(sum(case.find("failure") is not None for case in cases)),
            errors=str(sum(case.find("error") is not None for case in cases)),
            skipped=str(sum(case.find("skipped") is not None for case in cases)),
            time=f"{sum(cell.seconds for cell in cells):.3f}",
            timestamp=document["meta"]["date"].removesuffix("Z"),
        )
        suite.extend(cases)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
