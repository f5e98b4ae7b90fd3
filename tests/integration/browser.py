"""Headless Chromium with no network but loopback, driven over the DevTools protocol.

async with chromium() as browser, browser.page(f"{url}/docs") as page:
    await page.until("document.querySelector('.opblock')")      # an expression of JavaScript, true at last
    page.requested                                              # the URLs that were asked for

Where there is no Chromium the test is skipped, and says so; with `CI` set it fails.
"""

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NoReturn

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
)
_WHEN = """new Promise(resolve => {
  const look = () => { const found = (%s); if (found) { observer.disconnect(); resolve(found); } };
  const observer = new MutationObserver(look);
  observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
  look();
})"""


class Page:
    """One tab. `requested` grows with every request that it makes, `blocked` with those that its policy prevents."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.blocked = set[str]()
        self._requests: dict[str, str] = {}
        self._socket = socket
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    @property
    def requested(self) -> set[str]:
        return set(self._requests.values())

    async def open(self, url: str) -> None:
        for domain in ("Network", "Page", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Waits, change by change of the document, until the expression is true."""
        return await self.evaluate(_WHEN % expression)

    async def click(self, selector: str) -> None:
        """Clicks once there is something to click."""
        await self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    async def type(self, selector: str, text: str) -> None:
        """Types in the place of what a field holds."""
        await self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        await self.call("Input.insertText", text=text)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answered: dict[str, Any] = await answer
        return answered

    async def listen(self) -> None:
        """Takes in what the browser says."""
        async for frame in self._socket:
            said = frame.json()
            match said:
                case {"id": number}:
                    self._answers.pop(number).set_result(said.get("result", {"exceptionDetails": said}))
                case {"method": "Network.requestWillBeSent", "params": {"requestId": request_id, "request": request}}:
                    self._requests[request_id] = request["url"]
                case {"method": "Network.loadingFailed", "params": {"requestId": request_id, "blockedReason": "csp"}}:
                    self.blocked.add(self._requests.pop(request_id))
                case {"method": "Page.loadEventFired"}:
                    self._loaded.set()


class Browser:
    def __init__(self, address: str) -> None:
        self._address = address

    @asynccontextmanager
    async def page(self, url: str) -> AsyncGenerator[Page, None]:
        async with ClientSession() as http:
            async with http.put(f"http://{self._address}/json/new") as response:
                target = json.loads(await response.read())
            async with http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                await page.open(url)
                try:
                    yield page
                finally:
                    await socket.close()
                    await listening


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser, None]:
    binary = next((found for name in _NAMES if (found := shutil.which(name))), None) or _cannot_run()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [*_OPTIONS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        process = await asyncio.create_subprocess_exec(
            binary, *options, "about:blank", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr
        address = await _address(process.stderr)
        draining = asyncio.create_task(process.stderr.read())
        try:
            yield Browser(address)
        finally:
            process.terminate()
            await draining
            await process.wait()


async def _address(stderr: asyncio.StreamReader) -> str:
    said = list[str]()
    async for line in stderr:
        said.append(line.decode(errors="replace"))
        if found := re.search(r"DevTools listening on ws://([^/]+)/", said[-1]):
            return found[1]
    raise AssertionError("Chromium did not start:\n" + "".join(said))


def _cannot_run() -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail("the documentation pages must be tested in CI: install Chromium (apt-get install chromium)")
    pytest.skip("NOT TESTED in a browser: there is no Chromium (on Debian: apt-get install chromium)")
