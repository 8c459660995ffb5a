"""``python -m asyncio_guest --host HOST program.py [args]``: an unchanged program inside a GUI main loop."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import sys
from pathlib import Path

from . import _hosts, _program
from ._install import install
from ._totals import totals

_DESCRIPTION = """\
Run a Python program so that each of its asyncio event loops is a guest inside HOST's main loop. The program needs no
change: asyncio.run(), asyncio.Runner, loop.run_forever() and loop.run_until_complete() all run in the host, as often
as they are called, on other threads too. Its arguments, sys.path, __main__ and exit status are what python itself
gives it.
"""

_EXAMPLES = """\
examples:
  python -m asyncio_guest --host tk program.py --port 8080
  python -m asyncio_guest --host gtk3 -m package.module arg
  python -m asyncio_guest --host poll --engine stock -c 'import asyncio; asyncio.run(asyncio.sleep(1))'
  pytest --guest-host=gtk3 tests/         # the same for a test suite

To give an application that owns its main loop a guest, import asyncio_guest and call start(); see help(asyncio_guest).
"""


def _hosts_text() -> str:
    lines = ["hosts found here:"]
    for name, missing in _hosts.usable().items():
        strategies = ", ".join(_hosts.hosts()[name].strategies)
        lines.append(f"  {name:<12} " + (f"cannot be used: {missing}" if missing else f"strategies: {strategies}"))
    return "\n".join(lines)


class _Help(argparse.Action):
    """``--help`` that looks for the hosts only when it is asked."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        parser.epilog = _hosts_text() + "\n\n" + _EXAMPLES
        parser.print_help()
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m asyncio_guest",
        usage="python -m asyncio_guest --host HOST [options] (program.py | -m module | -c command) [args ...]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="show this message, with the hosts found here")
    parser.add_argument("--host", required=True, help="the main loop to run in, by name")
    parser.add_argument("--engine", help="force what executes a loop iteration: stock or fast (default: probed)")
    parser.add_argument("--strategy", help="force how the host learns of work: watch or waiter")
    parser.add_argument(
        "--threads",
        choices=("poll", "error"),
        default="poll",
        help="loops on threads that the host refuses: run them on poll (default), or raise the host's error",
    )
    parser.add_argument("--totals", metavar="FILE", help="at exit write the counters of all guests to FILE, as JSON")
    parser.add_argument("-m", dest="module", metavar="module", help="run a module as a script")
    parser.add_argument("-c", dest="command", metavar="command", help="run a program given as a string")
    parser.add_argument("program", nargs="?", metavar="program.py", help="a file, a directory or a zip file")
    return parser


_VALUED = frozenset({"--host", "--engine", "--strategy", "--threads", "--totals"})


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments with the program, and the program's arguments (which may look like ours)."""
    index = 0
    while index < len(argv):
        argument = argv[index]
        if argument in _VALUED:
            index += 2
        elif argument in ("-m", "-c"):
            return argv[: index + 2], argv[index + 2 :]
        elif argument.startswith("-") and argument != "-":
            index += 1
            if argument[:2] in ("-m", "-c"):  # the value is in the same word
                break
        else:
            index += 1
            break
    return argv[:index], argv[index:]


def _write_totals(path: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked child
        path.write_text(json.dumps(totals(), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(argv: list[str]) -> int:
    """The command; returns its exit status, or raises what decides it (SystemExit, KeyboardInterrupt)."""
    own, arguments = split(argv)
    parser = _parser()
    options = parser.parse_args(own)
    if options.module is None and options.command is None and options.program is None:
        parser.error("nothing to run: give program.py, -m module or -c command")
    try:
        install(options.host, threads=options.threads, engine=options.engine, strategy=options.strategy)
    except (ValueError, TypeError, _hosts.HostUnavailable) as exc:
        parser.error(str(exc))
    if options.totals is not None:
        atexit.register(_write_totals, Path(options.totals).absolute(), os.getpid())
    try:
        if options.module is not None:
            sys.argv[:] = ["-m", *arguments]
            _program.run_module(options.module)
        elif options.command is not None:
            sys.argv[:] = ["-c", *arguments]
            _program.run_command(options.command)
        else:
            sys.argv[:] = [options.program, *arguments]
            _program.run_path(options.program)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        _program.strip_own_frames(exc)
        sys.excepthook(type(exc), exc, exc.__traceback__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
