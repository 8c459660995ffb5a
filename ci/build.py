"""Build asyncio_guest for one interpreter into build/<tag>/site; quick when nothing changed.

The interpreter is the one that runs this script. ``--sanitize`` builds into a directory of its own.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import sources  # noqa: E402  (the script's own folder is on no path before)

ROOT = sources.ROOT
SANITIZERS = {"": "none", "address": "address", "undefined": "undefined", "thread": "thread",
              "address,undefined": "address,undefined"}
NEWER_MESON = "meson==1.7.2"
"""For Python 3.12 and later: Debian 12's meson asks the interpreter for distutils, which is gone there."""


def tag(sanitize: str = "") -> str:
    """The name of the build directory: the interpreter's ABI, and the sanitizer."""
    soabi = sysconfig.get_config_var("SOABI") or f"{sys.implementation.cache_tag}-{sys.platform}"
    return soabi + (f"-{sanitize.replace(',', '-')}" if sanitize else "")


def run(command: list[str | Path], *, quiet: bool = False) -> None:
    """Run a command; print what it said when it fails (or always, unless `quiet`) and exit."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None)
    if done.returncode:
        print(done.stdout or "", file=sys.stderr)
        print(f"build: failed: {' '.join(map(str, command))}", file=sys.stderr)
        raise SystemExit(1)


def find_meson() -> list[str | Path]:
    """The command of a meson that can configure for this interpreter."""
    found = shutil.which("meson")
    if found:
        answer = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        version = tuple(int(part) for part in re.findall(r"\d+", answer)[:2])
        if sys.version_info < (3, 12) or version >= (1, 3):
            return [found]
    tools = ROOT / "build" / "tools"
    meson = tools / "bin" / "meson"
    if not meson.exists():
        print(f"build: installing {NEWER_MESON} for Python {sys.version_info[0]}.{sys.version_info[1]} into {tools}")
        venv.create(tools, with_pip=True, clear=True)
        run([tools / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", NEWER_MESON])
    return [meson]


def quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def configure(meson: list[str | Path], build: Path, site: Path, args: argparse.Namespace) -> bool:
    """Set the build directory up, or again when options or the list of files changed; whether it did."""
    options = [
        f"-Dpython.platlibdir={site}", f"-Dpython.purelibdir={site}", f"--prefix={build / 'root'}",
        f"-Db_sanitize={SANITIZERS[args.sanitize]}", "-Db_lundef=false",
    ]
    if args.sanitize:
        options.append("-Dbuildtype=debug")
        options.append("-Doptimization=1")
    if "undefined" in args.sanitize:
        options.append("-Dc_args=-fno-sanitize-recover=undefined")
    native = build.parent / f"{build.name}.ini"
    machine = f"[binaries]\npython = {quote(sys.executable)}\n"
    environment = [os.environ.get(name, "") for name in ("CC", "CFLAGS", "LDFLAGS", "PKG_CONFIG_PATH")]
    state = hashlib.sha256(
        "\n".join([sys.version, machine, *map(str, meson), *options, *environment, sources.fingerprint()]).encode()
    ).hexdigest()
    stamp = build / "configured"
    if stamp.exists() and stamp.read_text() == state and (build / "build.ninja").exists():
        return False
    build.parent.mkdir(parents=True, exist_ok=True)
    native.write_text(machine)
    again = ["--reconfigure"] if (build / "build.ninja").exists() else []
    if not again and build.exists():
        shutil.rmtree(build)
    command = [*meson, "setup", *again, "--native-file", native, *options, build, ROOT]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode and again:
        # A directory of an older meson or an option that went: start afresh once.
        shutil.rmtree(build)
        command.remove("--reconfigure")
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        raise SystemExit(1)
    for line in done.stdout.splitlines():
        if "SKIPPED" in line:
            print(line.removeprefix("Message: "))
    stamp.write_text(state)
    return True


def sweep(build: Path, site: Path) -> None:
    """Delete from the site what is no longer installed into it (a module that was removed or renamed)."""
    installed = json.loads((build / "meson-info" / "intro-installed.json").read_text())
    wanted = set(installed.values())
    for path in sorted(site.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif "__pycache__" in path.parts:
            # A cache outlives its module only as rubbish: the name before the first dot is the module's.
            if not (path.parent.parent / f"{path.name.partition('.')[0]}.py").exists():
                path.unlink()
        elif str(path) not in wanted:
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sanitize", choices=sorted(SANITIZERS), default="", help="instrument the C code")
    parser.add_argument("targets", nargs="*", help="further targets of the build, such as c-tests or c-bench")
    parser.add_argument("--tag", action="store_true", help="print the name of the build directory and stop")
    args = parser.parse_args()
    if args.tag:
        print(tag(args.sanitize))
        return
    if not shutil.which("ninja"):
        raise SystemExit("build: ninja is missing; on Debian: apt-get install ninja-build meson")
    top = ROOT / "build" / tag(args.sanitize)
    build, site = top / "meson", top / "site"
    top.mkdir(parents=True, exist_ok=True)
    with open(top / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds of one tree, from two terminals or test workers
        make(build, site, args)
    print(f"built {site.relative_to(ROOT)}")


def make(build: Path, site: Path, args: argparse.Namespace) -> None:
    """Configure, compile, install."""
    meson = find_meson()
    fresh = configure(meson, build, site, args)
    run(["ninja", "-C", build, "--quiet", "all", *args.targets], quiet=True)
    run([*meson, "install", "-C", build, "--only-changed", "--no-rebuild", "--quiet"], quiet=True)
    if fresh:
        sweep(build, site)


if __name__ == "__main__":
    main()
