"""A headless Chromium through chromedriver's HTTP interface, with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def missing() -> str | None:
    """Why there is no browser here; None where there is one."""
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            return f"no {name} on this machine"
    return None


class Browser:
    """One page at a time."""

    def __init__(self, address: str, folder: str) -> None:
        self._address = address
        options = {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={folder}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._session = self._call("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        request = urllib.request.Request(
            f"{self._address}/session{path}", method="DELETE" if body is None else "POST",
            data=None if body is None else json.dumps(body).encode(), headers={"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def _in(self, path: str, body: dict[str, Any]) -> Any:
        return self._call(f"/{self._session}{path}", body)

    def open(self, page: Path) -> None:
        self._in("/url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that the body of a function returns."""
        return self._in("/execute/sync", {"script": script, "args": list(arguments)})

    def log(self, kind: str = "browser") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._in("/se/log", {"type": kind})
        return found

    def tell(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._in("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width: int, height: int = 900, scale: float = 1) -> None:
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def media(self, scheme: str = "light", media: str = "") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.tell("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, *, whole: bool = False, kind: str = "png") -> bytes:
        shot = self.tell("Page.captureScreenshot", captureBeyondViewport=whole, format=kind)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.tell("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])

    def close(self) -> None:
        self._call(f"/{self._session}", None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that is gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        quiet = subprocess.DEVNULL
        driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=quiet, stderr=quiet)
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            found = Browser(f"http://127.0.0.1:{port}", folder)
            try:
                yield found
            finally:
                found.close()
        finally:
            driver.terminate()
            driver.wait(timeout=20)


if __name__ == "__main__":  # python tests/report/browser.py PAGE.html PICTURE.png WIDTH HEIGHT light|dark [TOP]
    page, picture, width, height, scheme, *top = sys.argv[1:]
    with browser() as opened:
        opened.size(int(width), int(height))
        opened.media(scheme)
        opened.open(Path(page))
        opened.run("window.scrollTo({top: arguments[0], behavior: 'instant'})", int(top[0]) if top else 0)
        Path(picture).write_bytes(opened.picture())
