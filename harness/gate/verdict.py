"""From what the stages found to the verdict, and how it is shown."""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import results
from .patch import UNTRIED, Patch
from .proof import File
from .stages import Finding, Outcome

ACCEPT, REJECT, INCONCLUSIVE, NOT_JUDGED = "ACCEPT", "REJECT", "INCONCLUSIVE", "NOT_JUDGED"
CODES = {
    ACCEPT: results.OK,
    REJECT: results.UNEXPECTED,
    INCONCLUSIVE: results.INCONCLUSIVE,
    NOT_JUDGED: results.NOTHING_RAN,
}
RED_BASE = 0.05
"""A larger share of what was compared may not be red on base already; else too little is said about head."""
ONCE, ONCE_LEAST = 0.005, 2
"""So many of what was compared may have differed once and never again, or this many; more are not the machine's."""


@dataclasses.dataclass
class Judged:
    """Everything that the verdict rests on."""

    patch: Patch
    proof: list[File]
    outcomes: list[Outcome]
    selected: str = ""
    """What was left out by the user's choice, or empty."""
    interrupted: bool = False
    nothing: str = ""
    """Why nothing could be judged, or empty."""
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    """Contenders that cannot run here, and the remedy."""

    @property
    def findings(self) -> list[Finding]:
        return [finding for outcome in self.outcomes for finding in outcome.findings]

    def verdict(self) -> tuple[str, list[str]]:
        """The verdict and its reasons."""
        if self.nothing:
            return NOT_JUDGED, [self.nothing]
        untried = self.patch.paths(*UNTRIED)
        if self.findings:
            reasons = [
                f"{len(self.findings)} confirmed finding(s), the first: {self.findings[0].what} under "
                f"{self.findings[0].contender}: {self.findings[0].difference.splitlines()[0]}"
            ]
            if untried:
                reasons.append(f"judged without {_some(untried)}, which this gate cannot try")
            return REJECT, reasons
        reasons = []
        if self.interrupted:
            reasons.append("interrupted")
        if self.selected:
            reasons.append(f"only a part was run ({self.selected}), and a part cannot accept")
        if untried:
            reasons.append(f"a part of the patch was not tried: {_some(untried)}")
        for file in self.proof:
            if not file.loaded:
                reasons.append(f"{file.path}: no process was seen to load it")
            elif file.unproven:
                reasons.append(f"{file.path}: nothing ran the changed lines of {_some(file.unproven)}")
        for outcome in self.outcomes:
            for one in outcome.flaky:
                reasons.append(
                    f"{one.what} under {one.contender} is flaky: it {'hung or died' if one.grave else 'differed'}, and run "
                    "again it differs neither each time nor as often on base"
                )
            for one in outcome.doubtful:
                reasons.append(f"{one.what}: {one.difference.splitlines()[0]}")
            if outcome.unrepeated:
                reasons.append(f"{outcome.name}: {len(outcome.unrepeated)} differences were not run again")
            if len(outcome.red_base) > RED_BASE * max(1, outcome.compared):
                reasons.append(f"{outcome.name}: {len(outcome.red_base)} of {outcome.compared} are red on base already")
            if outcome.status == "done" and not outcome.compared:
                reasons.append(f"{outcome.name}: nothing was compared")
            if outcome.not_run:
                reasons.append(f"{outcome.name}: {len(outcome.not_run)} did not run: {_some(outcome.not_run)}")
            if outcome.status == "notrun" and outcome.name not in self.missing:
                reasons.append(f"{outcome.name} did not run: {outcome.why}")
        compared = sum(outcome.compared for outcome in self.outcomes)
        once = sum(len(outcome.once) for outcome in self.outcomes)
        if once > max(ONCE_LEAST, ONCE * compared):
            reasons.append(f"{once} of {compared} differed once; that none did again does not excuse so many")
        for name in ("plain", "guest/poll+stock"):
            if name in self.missing:
                reasons.append(f"{name} did not run: {self.missing[name]}")
        if reasons:
            return INCONCLUSIVE, reasons
        reasons = [f"head does nothing worse than base in {compared} tests and cells"]
        if self.missing:
            reasons.append(f"said without {_some(list(self.missing))}, which cannot run here")
        for what, key in (("comes and goes on base too", "both"), ("differed once and never again", "once")):
            names = [f"{one.what} under {one.contender}" for outcome in self.outcomes for one in getattr(outcome, key)]
            if names:
                reasons.append(f"{what}: {_some(names)}")
        if any(file.path.rpartition("/")[2].startswith("windows_") for file in self.proof) or self.patch.paths(
            "windows"
        ):
            reasons.append("nothing is said about what runs on Windows only")
        return ACCEPT, reasons

    def code(self) -> int:
        return results.INTERRUPTED if self.interrupted else CODES[self.verdict()[0]]


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def markdown(document: dict[str, Any]) -> str:
    """The results for people."""
    meta, python = document["meta"], document["python"]
    lines = [f"# Gate: {document['verdict']}", ""]
    lines += [f"- {_cell(reason)}" for reason in document["reasons"]]
    lines += [
        "",
        f"`{document['patch']['name']}` on CPython {python['version']}, {meta['date']}, commit "
        f"{(meta['commit'] or 'unknown')[:12]}{' and changes' if meta['dirty'] else ''}; {meta['seconds']:.0f} s; "
        f"exit code {meta['exit_code']}{'; **interrupted**' if meta['interrupted'] else ''}.",
        "",
    ]
    lines += [f"- {_cell(title)}" for title in document["patch"]["titles"]]
    lines += ["", "| file | hunks | lines | |", "|---|---|---|---|"]
    lines += [
        f"| {f['path']} | {f['hunks']} | +{f['added']} −{f['removed']} | {f['why']} |"
        for f in document["patch"]["files"]
    ]
    if document["proof"]["files"]:
        lines += [
            "",
            "## What of it ran",
            "",
            "| file | changed functions | lines that ran | lines that did not |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {f['path']} | {', '.join(f['functions']) or 'no code changed'} | {_numbers(f['ran'])} | "
            f"{_numbers(f['did_not_run'])} |"
            for f in document["proof"]["files"]
        ]
    if document["stages"]:
        lines += [
            "",
            "## Base against head",
            "",
            "| stage | compared | agree | findings | flaky | on base too | once | not run | red on base | s | |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {s['name']} | {s['compared']} | {s['agree']} | {len(s['findings'])} | {len(s['flaky'])} | "
            f"{len(s['both'])} | {len(s['once'])} | {len(s['not_run'])} | {len(s['red_base'])} | {s['seconds']:.0f} | {_ended(s)} |"
            for s in document["stages"]
        ]
    for title, key in (
        ("Findings", "findings"),
        ("Flaky", "flaky"),
        ("To be read", "doubtful"),
        ("Comes and goes on base too", "both"),
        ("Differed once and never again", "once"),
    ):
        found = [one for stage in document["stages"] for one in stage[key]]
        if found:
            lines += ["", f"## {title}", ""]
        for one in found:
            lines.append(f"### {one['what']} under {one['contender']}: {one['kind']}")
            lines += ["", f"- base: {_cell(one['base'])}", f"- head: {_cell(one['head'])}"]
            lines += [f"- {_cell(line)}" for line in one["difference"].splitlines()]
            lines += [f"- run again alone: {_cell(again)}" for again in one["repeated"]]
            lines += [f"- hunk: `{hunk}`" for hunk in one["hunks"]]
            if one["rerun"]:
                lines.append(f"- again: `{one['rerun']}`")
            if one["detail"]:
                lines += ["", "```", one["detail"].strip()[-3000:].replace("```", "'''"), "```"]
            lines.append("")
    for title, key in (("Red on base already, not blamed on head", "red_base"), ("Did not run", "not_run")):
        named = [f"{stage['name']}: {_cell(', '.join(stage[key]))}" for stage in document["stages"] if stage[key]]
        if named:
            lines += ["", f"## {title}", "", *[f"- {line}" for line in named]]
    return "\n".join(lines).rstrip() + "\n"


def _ended(stage: dict[str, Any]) -> str:
    if stage["status"] == "done":
        return ""
    return _cell(": ".join(filter(None, (stage["status"], stage["why"]))))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _numbers(lines: list[int]) -> str:
    """``3, 5-9``."""
    parts: list[list[int]] = []
    for line in lines:
        if parts and line == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], line]
        else:
            parts.append([line, line])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) or "none"
