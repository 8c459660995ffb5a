"""The verb ``gate``: its command line, and the stages in their order."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import functools
import hashlib
import importlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import contenders, report, results, suite, tree
from ..session import Interrupted, Session
from ..tree import UsageError
from . import interpreters, overlay, proof, stages, verdict
from . import patch as patches
from .stages import Finding, Outcome

SCHEMA = "asyncio-guest/gate@1"
STAGES = ("proof", "test_asyncio", "plain", "poll", "tk", "gtk3")
HOSTS = ("poll", "tk", "gtk3")
PROOF_S = 180.0
CELL_FILES = (
    "adapters.py",
    "calibration.py",
    "cell.py",
    "contenders.py",
    "contenders.toml",
    "declared.toml",
    "guardian.py",
    "repetitions.py",
    "session.py",
    "suite.py",
    "suite_cell.py",
    "suite_program.py",
    "suite_pytest.py",
    "suite_test.py",
    "teardown.py",
    "tree.py",
    "verdicts.py",
    "xvfb.py",
)
"""What of the harness takes part in a cell: base's results are known for as long as these are the same."""

CI = tree.TOP / "ci"

EPILOG = """\
The patch is a diff (git diff, diff -u; any number of folders in front of Lib/) or a pull request's .patch.
It goes into a copy of this interpreter's asyncio; what is installed is only read.

verdicts   ACCEPT (0)        head does nothing worse than base
           REJECT (3)        it does, twice more when run again alone; each finding names a test or case
           INCONCLUSIVE (6)  flaky, not all was run, changed lines that nothing ran, a part that cannot be tried
           NOT_JUDGED (5)    nothing in the patch that can be tried here (C, documentation, Windows)
A patch that cannot be read or does not apply: 2, with file, hunk and line.

examples:
  gate fix.diff                                all stages, some ten minutes on two idle cores
  gate --exitfirst fix.diff                    stop after the first stage with a finding
  gate --quick fix.diff                        related tests, cases under plain and poll (cannot accept)
  gate fix.diff 'plain::E*' 'guest/tk::T*'     these cells only (cannot accept)
  gate --stages test_asyncio -m 'test_tasks*' fix.diff
  gate --python auto fix.diff                  the newest interpreter that can be used; says why not the others

"""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """The arguments of ``gate``."""
    add = verb.add_argument
    add("patch", type=Path, metavar="PATCH", help="diff or .patch")
    add("selector", nargs="*", metavar="SELECTOR", help="cells to run instead of all (CONTENDERGLOB::CASEGLOB)")
    add(
        "--python",
        metavar="PATH",
        help="interpreter to judge for (default: this one; auto: the newest that can be used)",
    )
    add("--stages", metavar="LIST", help=f"some of {','.join(STAGES)}")
    add("-m", "--match", default="*", metavar="GLOB", help="tests of test_asyncio: test_tasks.*")
    add("--quick", action="store_true", help="related test modules, cases under plain and poll")
    add("-x", "--exitfirst", action="store_true", help="stop after the first stage with a finding")
    add("-j", "--jobs", type=int, default=0, metavar="N", help="processes at a time (default: one a core)")
    add("--timeout", type=float, default=30.0, metavar="S", help="seconds a test may take without a sign of life")
    add("--timeout-scale", type=float, default=1.0, metavar="F", help="factor on all watchdogs")
    add("--fresh", action="store_true", help="run base again, too, though its results are known")
    add("--results", type=Path, default=None, metavar="DIR", help="folder of results (default: results/latest)")
    add("--json", type=Path, metavar="FILE", help="also write the results here")


def run(options: argparse.Namespace) -> int:
    """The verb; the exit code."""
    if options.timeout <= 0 or options.timeout_scale <= 0 or options.jobs < 0:
        raise UsageError("--timeout and --timeout-scale must be positive, --jobs not negative")
    if not options.patch.is_file():
        raise UsageError(f"there is no patch {options.patch}")
    if options.python:
        return elsewhere(options)
    return Gate(options).run()


# -- another interpreter


def elsewhere(options: argparse.Namespace) -> int:
    """Run the gate with another interpreter, built for first: the named one, or the newest that can be used."""
    if not tree.IN_TREE:
        raise UsageError("--python works in the source tree; installed, run the gate with that interpreter")
    out = report.console()
    if options.python != "auto":
        found = shutil.which(options.python)
        one = interpreters.ask(Path(found)) if found else f"there is no {options.python}"
        if isinstance(one, str):
            raise UsageError(f"{options.python}: {one}")
        if one.problem and "debug build" not in one.problem:
            raise UsageError(f"{options.python} {one.problem}")
        return _again(options, one.path) if _build(one.path, out) else results.NOTHING_RAN
    known = {path.name for path in overlay.asyncio_folder().glob("*.py")}
    patches.read(options.patch, known)  # what cannot be read fits no interpreter
    refused = []
    for one in interpreters.present():
        why = one.problem or _misfit(one, options.patch)
        if why is None and not _build(one.path, out):
            why = "the package does not build for it"
        if why is None:
            out.print(f"CPython {one.words} ({one.path}): newest that can be used", markup=False)
            return _again(options, one.path)
        refused.append(f"CPython {one.words} ({one.path}): {why}")
        out.print(refused[-1], markup=False)
    raise UsageError("no interpreter can be used: " + "; ".join(refused or ["none found"]))


def _misfit(one: interpreters.Interpreter, path: Path) -> str | None:
    """Why the patch does not fit an interpreter, found by that interpreter's own asyncio."""
    code = "import sys; from harness.gate import verb; sys.exit(verb.fits(sys.argv[1]))"
    # The packages that the gate needs may be this interpreter's only.
    packages = [
        str(Path(sys.modules[name].__file__ or "").parent.parent) for name in ("unidiff",) if name in sys.modules
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree.TOP), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [one.path, "-c", code, str(path)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 0:
        return None
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def fits(path: str) -> int:
    """Does the patch apply here?  Says why not; for a process of another interpreter."""
    try:
        known = {path.name for path in overlay.asyncio_folder().glob("*.py")}
        patch = patches.read(Path(path), known)
        with tempfile.TemporaryDirectory(prefix="ag-gate-") as folder:
            overlay.prepare(Path(folder) / "head", patch)
    except UsageError as error:
        print(error)
        return 1
    return 0


def _clean() -> dict[str, str]:
    """The environment without what belongs to this interpreter's run."""
    own = ("PYTHONPATH", "ASYNCIO_GUEST_SITE", "AG_BUILD", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
    return {k: v for k, v in os.environ.items() if k not in own}


def _top(python: str) -> Path:
    """Where the build for an interpreter is."""
    asked = subprocess.run([python, CI / "build.py", "--tag"], capture_output=True, text=True, env=_clean(), check=True)
    return tree.TOP / "build" / asked.stdout.strip()


def _build(python: str, out: Any) -> bool:
    """Install what the interpreter lacks and build the package for it; without the environments of other contenders."""
    packages = [] if python == "/usr/bin/python3" else [str(_top(python) / "deps")]
    for command in (["sh", str(CI / "setup"), python, *packages], [python, str(CI / "build.py")]):
        done = subprocess.run(
            command, env=_clean(), cwd=tree.TOP, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            out.print((done.stdout + done.stderr).strip()[-2000:], markup=False)
            return False
    return True


def _again(options: argparse.Namespace, python: str) -> int:
    """The gate under `python`, in the environment of its build."""
    top = _top(python)
    environment = _clean()
    environment.update(
        PYTHONPATH=os.pathsep.join(map(str, (top / "site", top / "deps", tree.TOP))),
        PYTHONDONTWRITEBYTECODE="1",
        ASYNCIO_GUEST_SITE=str(top / "site"),
        AG_BUILD=str(top / "meson"),
    )
    process = subprocess.Popen([python, "-m", tree.PACKAGE, "gate", *_arguments(options)], env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)  # harmless where the terminal has sent it already
            continue  # it writes its results


def _arguments(options: argparse.Namespace) -> list[str]:
    """The command line again, without the interpreter."""
    found = [str(options.patch), *options.selector]
    for name in ("stages", "match", "timeout", "timeout_scale", "jobs", "results", "json"):
        value = getattr(options, name)
        if value not in (None, "*", 0):
            found.append(f"--{name.replace('_', '-')}={value}")
    return found + [f"--{name}" for name in ("quick", "exitfirst", "fresh") if getattr(options, name)]


# -- this interpreter


def set_aside(outcome: Outcome, modules: set[str]) -> None:
    """Leave to a person what is missing in these test modules: the patch changes them, so it need not be its asyncio's doing."""
    for finding in [f for f in outcome.findings if suite.module_of(f.what) in modules]:
        if finding.kind == "lost":
            finding.kind, finding.difference = "removed-test", "the patch takes this test away"
        elif finding.kind == "outcome" and finding.head in ("skip", "xfail"):
            finding.kind, finding.difference = "changed-test", f"on head this test, which passes on base, is {finding.head}"
        else:
            continue
        outcome.findings.remove(finding)
        outcome.doubtful.append(finding)


class Gate:
    """One run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out = report.console()
        self.jobs = options.jobs or tree.cores()
        self.began = time.monotonic()
        known = {path.name for path in overlay.asyncio_folder().glob("*.py")}
        self.patch = patches.read(options.patch, known)
        self.wanted, selected = self._selection()
        self.judged = verdict.Judged(self.patch, [], [], selected)
        self.cached = False
        self.proof_modules: list[str] = []
        self.digests = ("", "")
        self.scale = 1.0

    def say(self, text: str) -> None:
        self.out.print(f"  {text}", markup=False, highlight=False)

    def head_line(self, text: str) -> None:
        self.out.print(f"[bright_black]{time.monotonic() - self.began:6.0f} s[/]", text, markup=True, highlight=False)

    def _selection(self) -> tuple[list[str], str]:
        """The stages, and what of a full run is left out."""
        options = self.options
        wanted, left = list(STAGES), []
        if options.stages:
            wanted = [name.strip() for name in options.stages.split(",") if name.strip()]
            for name in wanted:
                if name not in STAGES:
                    raise UsageError(contenders.unknown("stage", name, STAGES))
            wanted = [name for name in STAGES if name in wanted]
            if wanted != list(STAGES):
                left.append(f"--stages {','.join(wanted)}")
        if options.quick:
            wanted = [name for name in wanted if name not in ("tk", "gtk3")]
            left.append("--quick")
        if options.selector:
            wanted = [name for name in wanted if name == "proof"]
            left.append(" ".join(options.selector))
        if options.match != "*":
            left.append(f"--match {options.match}")
        return wanted, ", ".join(left)

    # -- the run

    def run(self) -> int:
        """All stages; the exit code."""
        self.show_patch()
        if not self.patch.of(patches.JUDGED, patches.TESTS):
            kinds = "; ".join(f"{change.path}: {change.reason}" for change in self.patch.changes[:6])
            self.judged.nothing = f"the patch has nothing that can be judged here ({kinds})"
            return self.finish()
        folder = Path(tempfile.mkdtemp(prefix="ag-gate-"))
        try:
            with contextlib.ExitStack() as stack:
                try:
                    self.compare(folder, stack)
                except (KeyboardInterrupt, Interrupted):
                    self.judged.interrupted = True
            return self.finish()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def show_patch(self) -> None:
        options = self.options
        of = f", {self.patch.commits} commits" if self.patch.commits > 1 else ""
        self.head_line(f"[bold]{options.patch.name}[/]{of} on CPython {platform.python_version()}")
        for file in patches.summary(self.patch.changes):
            self.say(f"{file['path']}: {file['hunks']} hunk(s), +{file['added']} -{file['removed']}: {file['why']}")

    def compare(self, folder: Path, stack: contextlib.ExitStack) -> None:
        options, judged = self.options, self.judged
        base_lib, _ = overlay.prepare(folder / "sources" / "base", None)
        head_lib, applied = overlay.prepare(folder / "sources" / "head", self.patch)
        self.head_line(f"applied {sum(len(c.file) for c in applied)} hunk(s) to a copy")
        base, head = overlay.make(folder / "base", base_lib), overlay.make(folder / "head", head_lib)
        said = overlay.check(base)
        if said is not None:
            raise UsageError(f"{overlay.executable()} cannot be copied: {said}")
        self.digests = (overlay.digest(base.asyncio), overlay.digest(base.tests))
        try:
            judged.proof = proof.files(base, head, self.patch.paths(patches.JUDGED))
        except SyntaxError as error:
            where = f"asyncio/{Path(error.filename or '').name}, line {error.lineno}"
            self.broken("syntax", f"{where}: {error.msg}", f"{where}: {error.msg}: {(error.text or '').strip()!r}")
            return
        said = overlay.check(head)
        if said is not None:
            self.broken("import", said.splitlines()[-1], said)
            return
        about: dict[str, Any] = {"timeout_scale": options.timeout_scale, "whole": True}
        cache = stages.Cache(self.cache_folder(), options.fresh)
        self.cached = cache.used
        own = stack.enter_context(Session(python=base.python, asyncio=base.asyncio, **about))
        cache.seed(own)
        theirs = stack.enter_context(
            Session(scale=own.scale, python=head.python, asyncio=head.asyncio, oracle=own, **about)
        )
        control = stack.enter_context(
            Session(scale=own.scale, python=base.python, asyncio=base.asyncio, oracle=own, **about)
        )
        sides = stages.Sides(own, theirs, control, cache)
        self.scale = own.scale
        for name in STAGES:
            if name not in self.wanted:
                continue
            if options.exitfirst and judged.findings:
                judged.outcomes.append(Outcome(name, "skipped", "a finding was made before (--exitfirst)"))
                continue
            if name == "proof":
                self.head_line("[bold]proof[/]")
                self.prove(theirs, head)
            elif name == "test_asyncio":
                self.stage(name, lambda: self.tests(own, theirs, cache, base, head, folder, stack))
            elif overlay.digest(head.asyncio) == self.digests[0]:
                judged.outcomes.append(Outcome(name, "skipped", "the patch leaves asyncio as it is"))
            else:
                contender = name if name == "plain" else f"guest/{name}+stock"
                self.stage(contender, functools.partial(self.cells, contender, sides, list(own.cases)))
        for contender, ids in self.chosen(own).items():
            self.stage(contender, functools.partial(self.cells, contender, sides, ids))

    def stage(self, name: str, run: Callable[[], Outcome]) -> None:
        """Run one stage; interrupted, it is there as such."""
        began = time.monotonic()
        self.judged.outcomes.append(Outcome(name, "interrupted"))
        self.head_line(f"[bold]{name}[/]")
        outcome = run()
        outcome.seconds = round(time.monotonic() - began, 1)
        self.judged.outcomes[-1] = outcome
        self.done(outcome)

    def broken(self, kind: str, difference: str, detail: str) -> None:
        """Head cannot even be imported."""
        finding = Finding(kind, "proof", "import asyncio", "plain", "imports", "does not", difference, detail[-4000:])
        self.judged.outcomes.append(Outcome("proof", findings=[finding], compared=1))
        self.point([finding])
        self.say(difference)

    def prove(self, own: Session, head: overlay.Overlay) -> None:
        self.proof_modules = proof.run(own, head, self.judged.proof, PROOF_S * own.scale, self.say)
        for file in self.judged.proof:
            for name in file.unproven:
                self.say(f"{file.path}: nothing ran the changed lines of {name}")

    def tests(
        self,
        own: Session,
        theirs: Session,
        cache: stages.Cache,
        base: overlay.Overlay,
        head: overlay.Overlay,
        folder: Path,
        stack: contextlib.ExitStack,
    ) -> Outcome:
        """test_asyncio, and where the patch changes tests, its old tests on head too."""
        options = self.options
        base_modules, head_modules = base.modules(), head.modules()
        if options.quick:
            near = {
                *proof.related(self.patch.paths(patches.JUDGED), head_modules),
                *(Path(path).stem for path in self.patch.paths(patches.TESTS)),
            }
            base_modules = [name for name in base_modules if name in near]
            head_modules = [name for name in head_modules if name in near]
        if options.match != "*":

            def wanted(module: str) -> bool:
                prefix = options.match.partition(".")[0]
                return fnmatch.fnmatchcase(module, prefix)

            base_modules, head_modules = list(filter(wanted, base_modules)), list(filter(wanted, head_modules))
            if not head_modules:
                raise UsageError(contenders.unknown("test module", options.match, head.modules()))
        stage = stages.Tests(own, theirs, cache, options.match, options.timeout, self.jobs)
        ours, patched = stage.run(base_modules, head_modules, self.say)
        outcome = stage.compare(ours, patched, self.say)
        touched = self.touched(base.modules())
        if touched:
            self.old_tests(outcome, touched & set(base_modules), ours, own, theirs, cache, folder, stack)
        self.rerun(outcome, lambda f: f"--stages test_asyncio -m {shlex.quote(f.what)}")
        return outcome

    def old_tests(
        self,
        outcome: Outcome,
        modules: set[str],
        ours: dict[str, Any],
        own: Session,
        theirs: Session,
        cache: stages.Cache,
        folder: Path,
        stack: contextlib.ExitStack,
    ) -> None:
        """Tests that the patch takes away are for a person to read, and those whose form on base fails on head."""
        set_aside(outcome, modules)
        lib, _ = overlay.prepare(folder / "sources" / "old-tests", self.patch, tests=False)
        old = overlay.make(folder / "old-tests", lib)
        with_old = stack.enter_context(
            Session(
                scale=own.scale, timeout_scale=self.options.timeout_scale, python=old.python, asyncio=old.asyncio
            )
        )
        stage = stages.Tests(own, with_old, cache, self.options.match, self.options.timeout, self.jobs)
        for module in sorted(modules):
            self.say(f"{module} as it is on base, on head's asyncio")
            _, found = stage.run([], [module], self.say)
            again = stage.compare({id: t for id, t in ours.items() if id.partition(".")[0] == module}, found, self.say)
            known = {f.what for f in outcome.findings} | {f.what for f in outcome.doubtful}
            for finding in again.findings:
                if finding.what not in known:
                    finding.kind = "changed-test"
                    finding.difference = f"base's form of a test that the patch changes fails on head: {finding.head}"
                    outcome.doubtful.append(finding)
            outcome.flaky += [f for f in again.flaky if f.what not in known]
            outcome.unrepeated += [f"{id} as on base" for id in again.unrepeated]
            outcome.not_run += [what for what in again.not_run if what not in outcome.not_run]

    def touched(self, modules: list[str]) -> set[str]:
        """The test modules that the patch changes: all, when it changes what they import from beside them."""
        names = {Path(path).stem for path in self.patch.paths(patches.TESTS)}
        return names if all(name.startswith("test_") for name in names) else set(modules)

    def cells(self, contender: str, sides: stages.Sides, ids: Sequence[str]) -> Outcome:
        """The quick cases under one contender."""
        own = sides.base
        exact = set(ids)
        ids = [id for id in ids if own.cases[id].tier == "quick" or len(exact) < len(own.cases)]
        ids = [id for id in ids if sys.version_info[:2] >= tuple(own.cases[id].min_python)]
        probed = stages.probed(contender, sides, self.say)
        if probed.status == "missing":
            self.judged.missing[contender] = probed.why
            probed.status = "notrun"
        if probed.status != "done" or probed.findings:
            return probed
        stage = stages.Cells(contender, sides, self.jobs)
        ours, patched = stage.run(ids, self.say)
        outcome = stage.compare(ours, patched, self.say)
        for key in ("flaky", "both", "once"):
            getattr(outcome, key).extend(getattr(probed, key))
        self.rerun(outcome, lambda f: shlex.quote(f"{f.contender}::{f.what}"))
        return outcome

    def chosen(self, own: Session) -> dict[str, list[str]]:
        """The cells that the selectors name, by contender; guests with the engine stock, which runs asyncio's code."""
        found: dict[str, list[str]] = {}
        if not self.options.selector:
            return found
        for name, id in contenders.select(self.options.selector, own.cases, "quick"):
            contender = own.contender(name)
            if contender.kind == "guest" and contender.engine is None:
                name += "+stock"
            elif contender.kind != "plain" and contender.engine != "stock":
                raise UsageError(
                    f"{name}: only the engine stock executes the patched code; name plain or guest/HOST+stock"
                )
            found.setdefault(name, []).append(id)
        return found

    def rerun(self, outcome: Outcome, arguments: Any) -> None:
        """How to repeat each finding alone, and which hunk it points to."""
        path = self.options.patch
        path = path.name if path.is_absolute() else str(path)
        every = [*outcome.findings, *outcome.flaky, *outcome.both, *outcome.once, *outcome.doubtful]
        for finding in every:
            finding.rerun = f"{tree.PROGRAM} gate {shlex.quote(path)} {arguments(finding)}"
        self.point(every)

    def point(self, findings: Sequence[Finding]) -> None:
        hunks = [
            (
                Path(change.path).name,
                hunk.target_start,
                hunk.target_start + hunk.target_length - 1,
                patches.title(change, hunk),
            )
            for change in self.patch.of(patches.JUDGED)
            for hunk in change.file
        ]
        for finding in findings:
            stages.point(finding, hunks)

    def done(self, outcome: Outcome) -> None:
        words = (
            [f"{outcome.compared} compared, {outcome.agree} agree"]
            if outcome.status == "done"
            else [outcome.status, outcome.why]
        )
        for key in ("findings", "flaky", "both", "once", "doubtful", "red_base", "not_run", "better", "unrepeated"):
            if getattr(outcome, key):
                words.append(f"{len(getattr(outcome, key))} {key.replace('_', ' ')}")
        self.say(", ".join(filter(None, words)) + f" in {outcome.seconds:.0f} s")

    def cache_folder(self) -> Path:
        """Where base's results are kept: by interpreter, asyncio, tests, cases, drivers, package and number of cores."""
        made = hashlib.sha256("\n".join([sys.version, *self.digests, str(tree.cores())]).encode())
        for name in CELL_FILES:
            made.update((tree.HERE / name).read_bytes())
        for name in (tree.scenarios_name(), *tree.drivers()):  # the cases, and the drivers of their hosts
            folder = Path(importlib.import_module(name).__path__[0])
            made.update(overlay.digest(folder).encode())
        package = tree.site()
        for path in sorted((package / "asyncio_guest").rglob("*")) if package is not None else ():
            if path.suffix in (".py", ".so") and "_conformance" not in path.parts:
                made.update(hashlib.sha256(path.read_bytes()).digest())
        top = (
            tree.root() / "build" / str(sysconfig.get_config_var("SOABI"))
            if tree.IN_TREE
            else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asyncio-guest"
        )
        folder = top / "gate" / made.hexdigest()[:16]
        if folder.parent.is_dir():
            for old in folder.parent.iterdir():  # of suites and interpreters that are gone
                if old != folder and time.time() - old.stat().st_mtime > 14 * 86400:
                    shutil.rmtree(old, ignore_errors=True)
        return folder

    # -- the end

    def finish(self) -> int:
        """Judge, write, show; the exit code."""
        judged, options = self.judged, self.options
        word, reasons = judged.verdict()
        code = judged.code()
        seconds = time.monotonic() - self.began
        document = {
            "schema": SCHEMA,
            "meta": results.meta(interrupted=judged.interrupted, exit_code=code, scale=self.scale, seconds=seconds),
            "verdict": word,
            "reasons": reasons,
            "patch": {
                "name": options.patch.name,
                "titles": self.patch.titles,
                "files": patches.summary(self.patch.changes),
            },
            "python": {
                "version": platform.python_version(),
                "asyncio": self.digests[0],
                "test_asyncio": self.digests[1],
                "base_known": self.cached,
            },
            "selected": judged.selected,
            "missing": judged.missing,
            "proof": {"modules": self.proof_modules, "files": [file.as_json() for file in judged.proof]},
            "stages": [outcome.as_json() for outcome in judged.outcomes],
        }
        folder = options.results or tree.root() / "results" / "latest"
        for path in filter(None, (folder / "gate.json", options.json)):
            results.write(path, document, "gate")
        (folder / "gate.md").write_text(verdict.markdown(document))
        for finding in judged.findings:
            self.out.print(
                f"finding: {finding.what} under {finding.contender}: {finding.difference}",
                style="bold red",
                markup=False,
            )
            self.say("again: " + finding.rerun if finding.rerun else "")
        style = {"ACCEPT": "bold green", "REJECT": "bold red"}.get(word, "bold yellow")
        self.out.print(f"[{style}]{word}[/]", highlight=False)
        for reason in reasons:
            self.say(reason)
        self.out.print(f"results: {folder / 'gate.json'} in {seconds:.0f} s (exit code {code})")
        return code
