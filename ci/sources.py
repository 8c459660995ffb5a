"""List what the build installs, for meson: one line a file, sorted.

``sources.py backends`` prints the folders of backends/, ``sources.py core`` the C files of guest/src,
``sources.py package conformance`` lines "target folder<TAB>source", both relative (to the site directory, to the repository root).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = {".py", ".pyi", ".typed", ".json", ".toml", ".ini", ".txt", ".j2", ".tcl", ".ui", ".css", ".js", ".html"}
TEXTS = {"CATALOGUE.md"}
"""Documents that code reads."""


def walk(top: Path) -> Iterator[Path]:
    """The Python and data files below `top`, without caches, hidden files and a package's own tests."""
    for path in sorted(top.rglob("*")):
        inside = path.relative_to(top).parts
        if any(part.startswith(".") or part in {"__pycache__", "tests"} for part in inside):
            continue
        if (path.suffix in DATA or path.name in TEXTS) and path.is_file() and not path.name.startswith(("test_", "conftest.")):
            yield path


def core() -> list[str]:
    """The C files of the core."""
    return sorted(path.name for path in (ROOT / "guest" / "src").glob("*.c"))


def backends() -> list[str]:
    """The names of the backends: each folder of backends/ with a Python package in it or a meson.build."""
    top = ROOT / "backends"
    return sorted(
        path.name
        for path in top.iterdir()
        if path.is_dir() and ((path / "meson.build").exists() or (path / "__init__.py").exists())
    )


def tree(target: str, top: Path) -> list[str]:
    return [
        f"{Path(target, path.relative_to(top).parent).as_posix()}\t{path.relative_to(ROOT).as_posix()}"
        for path in walk(top)
    ]


def package() -> list[str]:
    """asyncio_guest itself and the Python side of each backend."""
    lines = tree("asyncio_guest", ROOT / "guest" / "asyncio_guest")
    lines.append("asyncio_guest/include\tguest/include/asyncio_guest.h")
    # What several backends share, such as the drivers' X11 part, lies beside their folders.
    lines += [f"asyncio_guest/backends\tbackends/{path.name}" for path in sorted((ROOT / "backends").glob("*.py"))
              if not path.name.startswith(("test_", "conftest"))]
    for name in backends():
        lines += tree(f"asyncio_guest/backends/{name}", ROOT / "backends" / name)
    return lines


def conformance() -> list[str]:
    """The harness and its cases under the names they have when installed."""
    lines = []
    for name in ("harness", "scenarios"):
        lines += tree(f"asyncio_guest/_conformance/{name}", ROOT / name)
    lines.append("asyncio_guest/_conformance\tci/_conformance/__init__.py")
    return lines


def fingerprint() -> str:
    """Changes when meson has to configure again: a file came, went or moved."""
    native = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "backends").glob("*/*.c*"))]
    return "\n".join(native + core() + backends() + package() + conformance())


def main() -> None:
    kinds = {"core": core, "backends": backends, "package": package, "conformance": conformance}
    for name in sys.argv[1:]:
        for line in kinds[name]():
            print(line)


if __name__ == "__main__":
    main()
