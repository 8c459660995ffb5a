"""Run a target of the Makefile in another release of Debian, with that release's interpreters and toolkits.

``make SUITE=NAME [TARGET] [PYTHON=...]`` comes here. The release lives in build/suite/NAME/root, made by debootstrap
when it is not there, brought up to date when the list of packages has changed, else left as it is. The same ``make``
then runs inside, once for each interpreter, with the repository bound to the same path, a build directory of the
release's own and results in results/latest/NAME-PYTHON; one table shows all of them at the end. Needs root, and the
network only to make it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

CI = Path(__file__).resolve().parent
ROOT = CI.parent
TARGETS = (
    "all", "setup", "build", "conformance", "full", "suite", "test", "bench", "fuzz", "leaks", "selftest", "gate",
    "gate-examples", "report", "dist", "samples", "clean",
)
MEASURED = ("all", "conformance", "full")
"""Targets that leave results of the conformance cases behind."""
PASSED = ("ARGS", "SANITIZE", "CFLAGS", "LDFLAGS", "COLUMNS", "TERM", "NO_COLOR", "PYTEST_ADDOPTS")
"""Variables of the environment that the inner make gets too."""
NEEDED = ("make", "git", "ca-certificates")
"""What `packages.txt` takes for granted on the machine, but a fresh root directory has not."""
DPKG = """\
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
"""
INSIDE = "/usr/sbin:/usr/bin:/sbin:/bin"

# $1 root, $2 repository, $3 build directory, $4 results or nothing; then the command. The outer shell is process 1 of
# the name space and outlives the command (xvfb-run and sid's timeout misbehave as process 1). /tmp is the machine's: X
# servers there and here share the numbers of their displays through it. The same authorities are trusted, for pip.
ENTER = """\
root=$1 repository=$2 build=$3 results=$4; shift 4
mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mount --bind /tmp "$root/tmp" || exit 70
mkdir -p "$root$repository" "$build" && mount --bind "$repository" "$root$repository" || exit 70
mkdir -p "$root$repository/build" && mount --bind "$build" "$root$repository/build" || exit 70
authorities=/etc/ssl/certs/ca-certificates.crt
if test -f $authorities && test -f "$root$authorities"; then
    mount --bind $authorities "$root$authorities" || exit 70
fi
if test -n "$results"; then
    mkdir -p "$results" "$root$repository/results/latest" &&
    mount --bind "$results" "$root$repository/results/latest" || exit 70
fi
chroot "$root" /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$repository" "$@"
exit $?
"""


class Problem(Exception):
    """What stands in the way, and its remedy; the process ends with 1."""


def table() -> dict[str, dict[str, Any]]:
    """The releases by name."""
    return dict(tomllib.loads((CI / "suites.toml").read_text()))


def packages(name: str, row: dict[str, Any], lines: Sequence[str], environments: dict[str, Any]) -> list[str]:
    """The names of all packages of a release, sorted: what the machine's own set-up needs, what the release's row adds,
    and what there stands for environments from PyPI."""
    wanted = {*NEEDED, *row["packages"]}
    for line in lines:
        fields = line.split()
        if len(fields) >= 2 and not line.startswith("#") and fields[1] != "suite" and name in (fields[2:] or [name]):
            wanted.add(fields[0])
    for environment in environments.values():
        wanted.update(environment.get("debian", ()))
    return sorted(wanted)


def stamp(name: str, row: dict[str, Any], wanted: Sequence[str]) -> str:
    """What a root directory was made from; another one means that it is out of date."""
    text = repr((name, row.get("also"), row.get("expired"), DPKG, list(wanted)))
    return hashlib.sha256(text.encode()).hexdigest()


def interpreters(row: dict[str, Any], wanted: str) -> list[str]:
    """The interpreters to run: all, or those that `wanted` names: a path, ``python3.14``, ``3.14``.  Raises Problem."""
    known: list[str] = row["pythons"]
    if not wanted.split():
        return known
    chosen = []
    for word in wanted.split():
        found = [path for path in known if word in (path, Path(path).name, Path(path).name.removeprefix("python"))]
        if word in ("/usr/bin/python3", "python3"):
            found = known[:1]
        if not found:
            raise Problem(f"PYTHON={word} is not in this suite; it has {', '.join(Path(p).name for p in known)}")
        chosen += found
    return list(dict.fromkeys(chosen))


def run(command: Sequence[str | Path], log: Path | None = None, **options: Any) -> int:
    """Run a command with nothing on stdin; what it says goes to `log`, if given.  Dies with this process."""
    with contextlib.ExitStack() as stack:
        if log is not None:
            options.update(stdout=stack.enter_context(log.open("ab")), stderr=subprocess.STDOUT)
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, **options)
        try:
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()  # unshare takes everything inside along (--kill-child)
                process.wait()
    return process.returncode


def unshared(script: str, *arguments: str | Path) -> list[str | Path]:
    """A command line for a shell script in name spaces of its own: its mounts and processes go when it ends."""
    options = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    return ["unshare", *options, "sh", "-c", script, "sh", *arguments]


class Suite:
    """One release's root directory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.row = table()[name]
        self.top = ROOT / "build" / "suite" / name
        self.root = self.top / "root"
        self.build = self.top / "build"
        self.stamp = self.top / "stamp"
        self.log = self.top / "log"
        self.lock = self.top.with_suffix(".lock")  # outlives `clean`

    def results(self, python: str) -> Path:
        """Where the results of one interpreter are."""
        return ROOT / "results" / "latest" / f"{self.name}-{Path(python).name.removeprefix('python')}"

    @contextlib.contextmanager
    def locked(self, how: int) -> Iterator[None]:
        """One at a time makes the root directory (LOCK_EX), any number may run in it (LOCK_SH).  Raises Problem when
        LOCK_NB is in `how` and another make is at work there."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as lock:
            try:
                fcntl.flock(lock, how)
            except BlockingIOError as error:
                raise Problem(f"another make SUITE={self.name} is at work: wait for its end, or stop it") from error
            yield

    # -- making it

    def packages(self) -> list[str]:
        environments = tomllib.loads((CI / "environments.toml").read_text())
        return packages(self.name, self.row, (CI / "packages.txt").read_text().splitlines(), environments)

    def current(self) -> bool:
        """Is the root directory there, with all the packages?"""
        wanted = stamp(self.name, self.row, self.packages())
        return self.stamp.exists() and self.stamp.read_text() == wanted and (self.root / "bin/sh").exists()

    def ensure(self) -> None:
        """Make the root directory, or bring it up to date, unless it is.  Raises Problem."""
        with self.locked(fcntl.LOCK_SH):
            if self.current():
                return
        with self.locked(fcntl.LOCK_EX):
            if self.current():
                return  # made by another while this one waited
            self.top.mkdir(parents=True, exist_ok=True)
            self.log.write_text("")
            wanted = self.packages()
            self.stamp.unlink(missing_ok=True)
            if not (self.root / "etc/dpkg/dpkg.cfg.d/suite").exists():
                self._bootstrap()
            print(f"suite: {self.name}: installing packages", flush=True)
            absent = self._install(wanted)
            if absent:
                print(f"suite: {self.name} has no {', '.join(absent)}; what needs them will be NOTRUN", flush=True)
            self.stamp.write_text(stamp(self.name, self.row, wanted))

    def _bootstrap(self) -> None:
        if self.root.exists():
            print(f"suite: {self.name}: what was begun before is removed", flush=True)
            remove(self.root)
        if not shutil.which("debootstrap"):
            print("suite: installing debootstrap", flush=True)
            if run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "debootstrap"], self.log):
                raise Problem(f"debootstrap is missing: apt-get install debootstrap{self._said()}")
        where = mirror()
        print(f"suite: {self.name}: debootstrap into {self.root.relative_to(ROOT)}, some minutes", flush=True)
        # A shell stays process 1 here too, and sees the processes of its own name space.
        script = 'mount -t proc proc /proc && debootstrap --variant=minbase --include=ca-certificates "$@"; exit $?'
        if run(unshared(script, self.name, self.root, where), self.log):
            remove(self.root)
            raise Problem(f"debootstrap could not make {self.name}; it needs the network and a mirror that has this "
                          f"release{self._said()}")
        if also := self.row.get("also"):
            # The mirror calls it "not automatic": only what is nowhere else comes from there.
            sources = self.root / "etc/apt/sources.list"
            sources.write_text(sources.read_text() + f"deb {where} {also} main\n")
        settings = 'Acquire::Check-Valid-Until "false";\n' if self.row.get("expired") else ""
        (self.root / "etc/apt/apt.conf.d/suite").write_text(settings)
        # The last thing that is written: it says that debootstrap has come to its end.
        (self.root / "etc/dpkg/dpkg.cfg.d/suite").write_text(DPKG)

    def _install(self, wanted: Sequence[str]) -> list[str]:
        """Install packages; the names that the release does not know."""
        shutil.copyfile("/etc/resolv.conf", self.root / "etc/resolv.conf")
        script = """\
            apt-get update -q || exit 71
            known= absent=
            for name in "$@"; do
                if apt-cache policy "$name" | grep -q 'Candidate: [0-9]'; then known="$known $name"
                else absent="$absent $name"; fi
            done
            echo $absent >/absent
            apt-get install -y -q --no-install-recommends $known && apt-get clean"""
        status = self.inside(["sh", "-c", script, "sh", *wanted], log=self.log)
        if status:
            what = "fetch the lists of packages" if status == 71 else "install all packages"
            raise Problem(f"apt-get could not {what} in {self.name}: is the network there?{self._said()}")
        return (self.root / "absent").read_text().split()

    def _said(self) -> str:
        """The last words of what failed."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("E:")] or lines
        return "".join(f"\n  {line}" for line in errors[-3:]) + f"\n  (all of it: {self.log.relative_to(ROOT)})"

    # -- using it

    def inside(self, command: Sequence[str], *, results: Path | None = None, log: Path | None = None) -> int:
        """Run a command in the root directory, in the repository; its exit code."""
        env = {name: os.environ[name] for name in PASSED if name in os.environ}
        env.update(PATH=INSIDE, HOME="/root", LANG="C.UTF-8", DEBIAN_FRONTEND="noninteractive", AG_SUITE=self.name)
        status = run(unshared(ENTER, self.root, ROOT, self.build, results or "", *command), log, env=env)
        if status == 70:
            raise Problem(f"cannot mount what {self.name} needs: root has no right to mount here (CAP_SYS_ADMIN)")
        return status

    def make(self, target: str, pythons: Sequence[str], variables: Sequence[str]) -> int:
        """The target with each interpreter, then the table; the worst exit code."""
        worst = 0
        for python in pythons:
            print(f"== {self.name}, {Path(python).name}: make {target}", flush=True)
            results = self.results(python)
            for old in (results.glob("*.json") if target in MEASURED else ()):
                old.unlink()
            # A root directory is not set up by hand: what pip has for an interpreter comes before "conformance" too.
            targets = ["setup", target] if target in ("build", "conformance") else [target]
            status = self.inside(["make", *targets, f"PYTHON={python}", *variables], results=results)
            if status:
                said = f"== {self.name}, {Path(python).name}: make {target} ended with {status}"
                print(said, file=sys.stderr, flush=True)
            worst = max(worst, status)
        files = [self.results(python) / "conformance.json" for python in pythons]
        files = [file for file in files if file.exists()]
        if target in MEASURED and len(files) > 1:
            print(f"== {self.name}, all interpreters", flush=True)
            self.inside([pythons[0], "-m", "harness", "show", *map(str, files)])
        return worst

    def clean(self) -> None:
        """Remove the root directory, what was built in it and its results."""
        with self.locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            remove(self.top)
            for folder in (ROOT / "results" / "latest").glob(f"{self.name}-*"):
                remove(folder)


def mirror() -> str:
    """The mirror of Debian that this machine's own apt uses.  Raises Problem."""
    try:
        release = Path("/etc/os-release").read_text()
        asked = subprocess.run(
            ["apt-get", "indextargets", "Created-By: Packages",
             "--format", "$(ORIGIN) $(LABEL)|$(RELEASE)|$(REPO_URI)"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )
    except OSError as error:
        raise Problem(f"apt is needed to find a mirror, on a Debian machine: {error}") from error
    own = [line.partition("=")[2].strip('"') for line in release.splitlines() if line.startswith("VERSION_CODENAME=")]
    rows = [line.split("|") for line in asked.stdout.splitlines() if line.count("|") == 2]
    # What apt knows of origins comes from lists that it has fetched; without those the release's name has to do.
    for origin, suite, where in rows:
        if origin == "Debian Debian" and suite in own:
            return where
    for _, suite, where in rows:
        if suite in own:
            return where
    raise Problem("apt's sources name no mirror of Debian (apt-get indextargets): add one to /etc/apt/sources.list")


def mounts_below(folder: Path) -> list[str]:
    """Mount points in a folder, as this process sees them."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    return [point for point in points if (point + "/").startswith(f"{folder}/")]


def remove(folder: Path) -> None:
    """Delete a folder, but nothing that is mounted in it.  Raises Problem."""
    if found := mounts_below(folder):
        raise Problem(f"something is mounted below {folder}: umount {' '.join(sorted(found, reverse=True))}")
    if folder.exists():
        shutil.rmtree(folder)


def stop(signum: int, frame: object) -> NoReturn:
    raise SystemExit(128 + signum)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=sorted(table()))
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("variables", nargs="*", metavar="NAME=VALUE", help="variables for the inner make")
    parser.add_argument("--python", default="", metavar="NAMES", help="3.14, python3.14 or a path; several in one")
    args = parser.parse_intermixed_args(arguments)
    for variable in args.variables:
        if "=" not in variable:
            parser.error(f"{variable} is not NAME=VALUE")
    signal.signal(signal.SIGTERM, stop)
    suite = Suite(args.suite)
    try:
        pythons = interpreters(suite.row, args.python)
        if args.target == "clean":
            suite.clean()
            return 0
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            remedy = f"sudo make SUITE={suite.name} {args.target}"
            raise Problem(f"needs root on Linux, for debootstrap and mounts: {remedy}")
        suite.ensure()
        with suite.locked(fcntl.LOCK_SH):
            return suite.make(args.target, pythons, args.variables)
    except Problem as problem:
        print(f"suite: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
