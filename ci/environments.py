"""Build the contenders' environments of environments.toml into build/<tag>/env/NAME; quick when nothing changed.

The interpreter is the one that runs this script. Without a package index it says what will be missing and
exits 0: the cells that need an environment are NOTRUN then, everything else runs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build  # noqa: E402  (the script's own folder is on no path before)

TABLE = Path(__file__).with_name("environments.toml")
STAMP = "complete"
"""The file in an environment that says what it was made from; the last thing that is written."""
IN_SUITE = bool(os.environ.get("AG_SUITE"))
"""Inside a root directory of ci/suite.py, which has installed what the release has of ``debian``."""
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2", "--timeout", "20")


def table() -> dict[str, dict[str, Any]]:
    """The environments by name.  Raises SystemExit for a row that means nothing."""
    rows: dict[str, dict[str, Any]] = tomllib.loads(TABLE.read_text())
    for name, row in rows.items():
        if set(row) - {"packages", "debian", "sdist", "deps", "full", "unpack"} or not row.get("packages"):
            raise SystemExit(f"{TABLE.name}: [{name}] needs packages, and may have debian, sdist, deps, full and unpack")
        for package in row["packages"]:
            if "==" not in package:
                raise SystemExit(f"{TABLE.name}: [{name}]: {package} is not pinned")
    return rows


def state(row: dict[str, Any]) -> str:
    """What an environment is made from: changes when it has to be made again."""
    return hashlib.sha256(repr((sys.version, sys.executable, IN_SUITE, sorted(row.items()))).encode()).hexdigest()


def unpack(folder: Path, wanted: dict[str, str]) -> str | None:
    """Fetch source distributions, look at their digests and unpack them into ``suite``; None, or what went wrong."""
    for requirement, digest in wanted.items():
        with tempfile.TemporaryDirectory() as fetched:
            # Only this one: what it is built by, which pip may want in order to read its name, comes as wheels.
            name = requirement.partition("==")[0]
            command = [sys.executable, "-m", "pip", "download", *PIP[3:], "--no-deps", "--no-binary", name]
            done = subprocess.run([*command, "--dest", fetched, requirement], stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            archives = list(Path(fetched).iterdir())
            if done.returncode or len(archives) != 1:
                return f"the source of {requirement}: {(done.stdout.splitlines() or ['pip said nothing'])[-1]}"
            if hashlib.sha256(archives[0].read_bytes()).hexdigest() != digest:
                return f"the source of {requirement} is not the one that was looked at: another digest"
            shutil.unpack_archive(archives[0], folder / "suite")
    return None


def make(folder: Path, row: dict[str, Any]) -> str | None:
    """Make one environment afresh; None, or what went wrong."""
    if folder.exists():
        shutil.rmtree(folder)
    venv.create(folder, system_site_packages=True, symlinks=True)
    if IN_SUITE and row.get("debian"):
        (folder / STAMP).write_text(state(row))
        return None
    command = [str(folder / "bin" / "python"), *PIP]
    if not row.get("sdist"):
        command += ["--only-binary", ":all:"]
    if not row.get("deps", True):
        command += ["--no-deps"]
    # What the interpreter has already must not count: Debian's pygame is no pygame-ce.
    done = subprocess.run([*command, "--ignore-installed", *row["packages"]], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        return (errors or lines or ["pip said nothing"])[-1]
    failed = unpack(folder, row.get("unpack", {}))
    if failed:
        return failed
    (folder / STAMP).write_text(state(row))
    return None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="environments (default: all but those for the full tier)")
    parser.add_argument("--all", action="store_true", help="those for the full tier too")
    args = parser.parse_args()
    rows = table()
    unknown = [name for name in args.names if name not in rows]
    if unknown:
        parser.error(f"no environment is called {', '.join(unknown)}; there are: {', '.join(rows)}")
    names = args.names or [name for name, row in rows.items() if args.all or not row.get("full")]
    top = build.ROOT / "build" / build.tag() / "env"
    top.mkdir(parents=True, exist_ok=True)
    for name in names:
        stamp = top / name / STAMP
        if stamp.exists() and stamp.read_text() == state(rows[name]):
            continue
        wanted = rows[name].get("debian") if IN_SUITE else None
        print(f"setup: environment {name}: {', '.join(wanted or rows[name]['packages'])}", flush=True)
        failed = make(top / name, rows[name])
        if failed:
            print(f"setup: environment {name} could not be made, what needs it will be NOTRUN ({failed})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
