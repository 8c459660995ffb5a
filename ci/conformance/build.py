"""Build the wheel asyncio-guest-conformance into a folder: ``build.py [FOLDER]`` (default: dist).

The harness, its cases and the hosts' drivers are laid out as one package beside this folder's files, in a temporary
place, and pip builds that: no file of the tree is there twice.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import sources  # noqa: E402  (the folder above is on no path before)

PACKAGE = "asyncio_guest_conformance"


def files() -> dict[str, Path]:
    """What the package is made of, by the place in it."""
    found = {f"{name}/{path.relative_to(sources.ROOT / name).as_posix()}": path
             for name in ("harness", "scenarios") for path in sources.walk(sources.ROOT / name)}
    # Of the backends their drivers alone, which know no guest.
    top = sources.ROOT / "backends"
    drivers = [*sorted(top.glob("*/driver.py")), *(p for p in sorted(top.glob("_*.py")) if p.name != "__init__.py")]
    return found | {f"backends/{path.relative_to(top).as_posix()}": path for path in drivers}


def stage(folder: Path) -> None:
    """Lay the sources of the distribution out in `folder`."""
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("__pycache__", "build.py"))
    for place, path in files().items():
        target = folder / PACKAGE / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def main() -> int:
    """The command line; pip's exit code."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else sources.ROOT / "dist").resolve()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "asyncio-guest-conformance"
        stage(folder)
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps",
                   "--no-build-isolation", "--no-index", "-w", str(target), str(folder)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
