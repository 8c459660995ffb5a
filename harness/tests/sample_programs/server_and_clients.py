"""A server and its clients in one program, as many are written: streams, a queue, a timeout, an orderly end."""

import asyncio
import sys


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(port: int, name: str, answers: "asyncio.Queue[str]") -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(3):
        writer.write(f"{name} {number}\n".encode())
        await writer.drain()
        answers.put_nowait((await reader.readline()).decode().strip())
    writer.close()
    await writer.wait_closed()


async def main(count: int) -> int:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answers: "asyncio.Queue[str]" = asyncio.Queue()
    async with server:
        await asyncio.gather(*(ask(port, f"client-{n}", answers) for n in range(count)))
    said = sorted(answers.get_nowait() for _ in range(answers.qsize()))
    print("\n".join(said))
    try:
        await asyncio.wait_for(answers.get(), 0.01)
    except asyncio.TimeoutError:
        print("nothing more", file=sys.stderr)
    return len(said)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(len(sys.argv) + 1)))
