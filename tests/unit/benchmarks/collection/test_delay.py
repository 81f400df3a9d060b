"""The relay that stands in for a long way, on loopback."""

from __future__ import annotations

import asyncio
import time

import services
from benchmarks.collection.delay import serve


def test_what_passes_arrives_a_round_trip_later_and_whole() -> None:
    async def run() -> tuple[float, bytes]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()

        near, far = services.find_free_ports(2)
        host = await asyncio.start_server(echo, "127.0.0.1", near)
        relay = asyncio.ensure_future(serve(["127.0.0.1"], far, near, 0.1))
        for _ in range(100):
            await asyncio.sleep(0.01)
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", far)
                break
            except OSError:
                continue
        started = time.monotonic()
        writer.write(b"x" * 300_000)
        writer.write_eof()
        answer = await reader.read()
        seconds = time.monotonic() - started
        writer.close()
        await writer.wait_closed()
        relay.cancel()
        host.close()
        await host.wait_closed()
        await asyncio.gather(relay, return_exceptions=True)
        return seconds, answer

    seconds, answer = asyncio.run(run())

    assert answer == b"x" * 300_000
    assert seconds >= 0.2  # one for the connection, one there and back
