"""The demo's part on MCP: an API's operations as tools, a poisoned result, and the end of a tool's limit."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from tenantgate.devhost.client import Client
from tenantgate.devhost.mcp_stack import api
from tenantgate.devhost.mock_api import document

if TYPE_CHECKING:
    from tenantgate.demo import Site
    from tenantgate.devhost.stack import Stack

__all__ = ["show_mcp"]

CALLS: Final = 3  # a minute, of the tool
PATIENCE_S: Final = 20.0
KEY: Final = "DECK_WAYNE_API_KEY"
TENANT: Final = """
  - id: wayne
    api_keys: ['${{ env "DECK_WAYNE_API_KEY" }}']
    response_guardrails:
      rules: [{name: injection, detector: injection, mode: block, target: reply}]
    mcp:
      - name: weather
        openapi: weather.json
        upstream: UPSTREAM
        tools: [{name: get_weather, rate_limit: {per_minute: CALLS}}]
"""


def show_mcp(stack: Stack, site: Site) -> int:
    """Offer an API's operation as a tool, and call it until its limit is reached; how much was wrong."""
    print(
        f"\nan API as an MCP server: wayne's weather, {CALLS} calls a minute; its result for one city is poisoned"
    )
    with api() as upstream:
        made = json.dumps(document(upstream))
        (site.folder / "weather.json").write_text(made, encoding="utf-8")
        site.append(TENANT.replace("UPSTREAM", upstream).replace("CALLS", str(CALLS)))
        client = Client(url=f"{stack.proxy_url}/v1/mcp/weather", key=site.new_key(KEY), model="")
        site.apply()
        listed = _listed(client)
        print(f"  wayne    tools/list: {', '.join(listed)}")
        good, poisoned, *more = [_called(client, city) for city in ("Vienna", "poisoned", "Lima", "Oslo")]
    return sum(
        (
            listed != ["get_weather"],
            "21.5" not in good,
            "withheld" not in poisoned,
            "21.5" not in more[0],
            "Rate limit reached" not in more[1],
        )
    )


def _listed(client: Client) -> list[str]:
    """Names of the tools, once the gateway knows the key."""
    deadline = time.monotonic() + PATIENCE_S
    while "result" not in (found := _asked(client, "tools/list")) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    return [tool["name"] for tool in found.get("result", {}).get("tools", [])]


def _called(client: Client, city: str) -> str:
    found = _asked(client, "tools/call", name="get_weather", arguments={"city": city})
    text = str(found["result"]["content"][0]["text"]) if "result" in found else str(found)
    print(f"  wayne    get_weather city={city:10} {text}")
    return text


def _asked(client: Client, method: str, **params: Any) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    found: dict[str, Any] = client.send(json.dumps(message).encode()).json
    return found
