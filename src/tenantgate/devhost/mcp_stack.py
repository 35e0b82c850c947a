"""A gateway in front of the mock API, whose operations a tenant's MCP server offers: for figures and conformance."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tenantgate.devhost.mock_api import document
from tenantgate.devhost.stack import Stack

__all__ = ["TENANT", "api", "mcp_stack"]

TENANT = "acme"


@contextlib.contextmanager
def api(*, more: int = 0) -> Iterator[str]:
    """The mock API in a process of its own; its URL."""
    command = [sys.executable, "-m", "tenantgate.devhost.mock_api", "--more", str(more)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None  # noqa: S101, PT018 - asked for
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.stdin.close()  # upon which it ends


@contextlib.contextmanager
def mcp_stack(
    folder: Path,
    *,
    kong_bin: str | Path | None = None,
    more: int = 0,
    tenant: dict[str, Any] | None = None,
    gateway: dict[str, Any] | None = None,
) -> Iterator[tuple[Stack, str]]:
    """The gateway, and the API's URL. The server is called ``api``, and offers all operations.

    Args:
        folder: for all files.
        kong_bin: a real Kong's `kong` instead of the embedded host.
        more: further operations of the API.
        tenant: more of the tenant's settings.
        gateway: of the gateway's.
    """
    with api(more=more) as url:
        made = document(url, more=more)
        names = [op["x-kong-mcp-tool-name"] for path in made["paths"].values() for op in path.values()]
        server = {
            "name": "api",
            "openapi": "openapi.json",
            "upstream": url,
            "tools": [{"name": n} for n in names],
        }
        key = '${{ env "DECK_ACME_API_KEY" }}'
        file = {
            "version": 1,
            "gateway": gateway or {},
            "tenants": [{"id": TENANT, "api_keys": [key], "mcp": [server], **(tenant or {})}],
        }
        (folder / "openapi.json").write_text(json.dumps(made), encoding="utf-8")
        (folder / "tenants.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
        with Stack(
            tenants=folder / "tenants.yaml", state_dir=folder / "state", kong_bin=kong_bin, log_level="warn"
        ) as stack:
            yield stack, url
