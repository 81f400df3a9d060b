"""A relay that makes hosts seem far away: what passes it arrives half a round trip later, and a new
connection one round trip later.

It stands in for netem, which needs a kernel module and a network namespace that not every machine gives.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

_CHUNK = 65536


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass on what arrives, each piece ``delay_s`` later, in order, and then the end."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def send() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - loop.time())
            if not piece:
                writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()

    sender = asyncio.ensure_future(send())
    with contextlib.suppress(OSError):
        while piece := await reader.read(_CHUNK):
            pieces.put_nowait((loop.time() + delay_s, piece))
    pieces.put_nowait((loop.time() + delay_s, b""))
    with contextlib.suppress(OSError):
        await sender


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int, rtt_s: float
) -> None:
    """Connect one client to its host."""
    await asyncio.sleep(rtt_s)
    try:
        host_reader, host_writer = await asyncio.open_connection(address, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, host_writer, rtt_s / 2), pump(host_reader, writer, rtt_s / 2))
    for each in (writer, host_writer):
        each.close()


async def serve(addresses: list[str], port: int, target: int, rtt_s: float) -> None:
    """Listen on ``port`` of each address for the host behind it on port ``target``."""
    async with contextlib.AsyncExitStack() as stack:
        for address in addresses:

            async def accept(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str = address
            ) -> None:
                await relay(reader, writer, address, target, rtt_s)

            server = await asyncio.start_server(accept, address, port, backlog=128)
            await stack.enter_async_context(server)
        print("ready", flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Run until the process is ended; the addresses come on standard input, one on a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collection.delay", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--rtt-ms", type=float, required=True)
    arguments = parser.parse_args()
    addresses = sys.stdin.read().split()
    asyncio.run(serve(addresses, arguments.port, arguments.target, arguments.rtt_ms / 1000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
