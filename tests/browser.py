"""A real Chromium without a window, driven over the DevTools protocol: what a page loads, says and measures.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from services.install import require_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT_S = 60


class Page:
    """One page of a browser; ``events`` is all that it has told, as (method, parameters)."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.events: list[tuple[str, dict[str, Any]]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._read()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def open(self, url: str, *, width: int, height: int = 900, mobile: bool = False) -> None:
        """Open an address in a window of a size, and wait until it has loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self._read()

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    @property
    def requests(self) -> list[str]:
        """The addresses that the page has asked for."""
        return [
            parameters["request"]["url"]
            for method, parameters in self.events
            if method == "Network.requestWillBeSent"
        ]

    @property
    def complaints(self) -> list[str]:
        """What the page's console and the browser's log say of it, errors of scripts among them."""
        wanted = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [json.dumps(parameters) for method, parameters in self.events if method in wanted]

    def _read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=LIMIT_S))
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message


@contextmanager
def browser(home: Path) -> Iterator[Page]:
    """Run a browser with a profile of its own, which has no network but loopback, and yield a page of it."""
    from websockets.sync.client import connect

    command = [
        require_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-port=0",
        f"--user-data-dir={home}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        address = _wait_for_address(process)
        with connect(address, max_size=None, open_timeout=LIMIT_S, compression=None) as root:
            root.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            found = json.loads(root.recv(timeout=LIMIT_S))["result"]["targetInfos"]
        target = next(one["targetId"] for one in found if one["type"] == "page")
        page_address = re.sub(r"/devtools/browser/.*", f"/devtools/page/{target}", address)
        with connect(page_address, max_size=None, open_timeout=LIMIT_S, compression=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT_S)


def _wait_for_address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"ws://\S+", line):
            return found[0]
    raise AssertionError(f"Chromium ended: {''.join(said[-10:])}")
