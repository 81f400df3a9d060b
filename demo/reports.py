"""Serves the folder of reports on loopback, so that the link of the task opens in a browser."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's own word
        """Say nothing: the demo's lines are for people."""


@contextmanager
def served(folder: Path, address: str, port: int) -> Iterator[str]:
    """Serve a folder inside the ``with`` block; yields its address."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer((address, port), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, name="reports")
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
