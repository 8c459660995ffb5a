"""A program that runs others, reads what they say, kills one, and ends by an error of its own."""

import asyncio
import signal
import sys


async def run(code: str, said: bytes) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(said)
    return f"{out.decode()!r}, status {process.returncode}"


async def main() -> None:
    echo = "import sys; print(sys.stdin.read()[::-1]); sys.exit(3)"
    for line in await asyncio.gather(run(echo, b"first"), run(echo, b"second")):
        print(line)
    sleeper = await asyncio.create_subprocess_exec("sleep", "60")
    sleeper.send_signal(signal.SIGTERM)
    print("sleeper", await sleeper.wait())
    print(asyncio.get_running_loop().is_running(), object.__repr__(sleeper).startswith("<asyncio.subprocess.Process"))
    print(object())
    raise LookupError("the end")


if __name__ == "__main__":
    asyncio.run(main())
