"""A reference platform in a thread, and tenants for it."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tenantgate.platform.reference.server import Options, ReferencePlatform

TOKEN: Final = "token-of-the-tests"
SECRET: Final = "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cy1zZWNyZXQ="


class Platform:
    """A reference platform that runs from `start` to `stop`; with `data` it can be started again."""

    def __init__(self, data: Path | None = None, **options: Any) -> None:
        self._options = Options(token=TOKEN, data=data, **options)
        self._loop = asyncio.new_event_loop()
        self._ready, self._port = threading.Event(), 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    def put(self, *tenants: dict[str, Any]) -> int:
        return int(self.call("PUT", "/_mock/tenants", list(tenants))["version"])

    def change(self, tenant: str, **values: Any) -> int:
        return int(self.call("PUT", f"/_mock/tenants/{tenant}", values)["version"])

    def fail(self, *faults: dict[str, Any]) -> None:
        self.call("PUT", "/_mock/faults", list(faults))

    def asked(self) -> dict[str, int]:
        found: dict[str, int] = self.call("GET", "/_mock/requests")
        return found

    def ledger(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.call("GET", f"/v1/usage/ledger?limit=1000{cursor}")
            rows += page["data"]
            if page["next_cursor"] is None:
                return rows
            cursor = f"&cursor={page['next_cursor']}"

    def send(self, events: list[Any]) -> dict[str, Any]:
        body: dict[str, Any] = self.call(
            "POST", "/v1/usage/events", events, {"Content-Type": "application/cloudevents-batch+json"}
        )
        return body

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        all_headers = {"Authorization": f"Bearer {TOKEN}", **(headers or {})}
        request = urllib.request.Request(self.url + path, data, all_headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        hanging = asyncio.all_tasks(self._loop)
        for task in hanging:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*hanging, return_exceptions=True))
        self._loop.close()

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        platform = ReferencePlatform(self._options)
        runner = web.AppRunner(platform.app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._options.port).start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._stopped.wait()
        await runner.cleanup()
        platform.storage.close()


def budget(**values: Any) -> dict[str, Any]:
    return {"name": "month", "max_budget": 500, **values}


def requests_limit(**values: Any) -> dict[str, Any]:
    return {"name": "minute", "limit": 100, "count": "requests", "window": "1m", **values}
