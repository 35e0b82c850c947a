"""MCP servers as operators write them in tenants.yaml; the file's classes and the compiler of servers share them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tenantgate.fields import config_class, field
from tenantgate.rate_limit import RateLimit

__all__ = ["McpAcl", "McpCache", "McpServer", "McpTool", "McpToolsFile", "duplicates"]

TOOL_NAME: Final = r"^[A-Za-z0-9_-]{1,64}$"
_SERVER: Final = r"^[a-z0-9][a-z0-9_-]*$"
_FINGERPRINT: Final = r"^sha256:[0-9a-f]{64}$"
_URL: Final = r"^https?://[^\s?#@]+$"
_HEADER: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_SECRET: Final = re.compile(r"auth|cookie|credential|key|passw|secret|session|signature|token", re.IGNORECASE)
_REFERENCE: Final = ("{vault://", "${{")
_NOT_OURS: Final = frozenset(
    "accept connection content-length content-type expect host te trailer transfer-encoding upgrade".split()
)


@config_class
class McpAcl:
    """Who may see and call a tool: consumers, groups, and scopes of tokens. A name under `deny` is always refused."""

    allow: tuple[str, ...] = field("Names that may; nobody else then. Default: all.", default=(), len_max=200)
    deny: tuple[str, ...] = field("Names that may not.", default=(), len_max=200)


@config_class
class McpCache:
    """Results of a tool that are given again, to all callers of the tenant who may call it."""

    ttl: int = field("How long a result is kept.", default=60, between=(1, 86_400), unit="s")


@config_class
class McpTool:
    """A tool that is offered, and what is said of it in place of what the document says."""

    name: str = field(
        "Name of the tool: of its operation, as `tenantgate mcp suggest` lists it; of a remote server, its own; of a "
        "model, `ask-` and its name.",
        match=TOOL_NAME,
        len_max=64,
    )
    rename: str | None = field(
        "Name that clients see in its place.", default=None, match=TOOL_NAME, len_max=64
    )
    title: str | None = field("Title for people, in place of the document's.", default=None, len_max=200)
    description: str | None = field(
        "Description for models, in place of the document's.", default=None, len_max=8_192
    )
    acl: McpAcl | None = field("Who may see and call it, in place of `default_acl`.", default=None)
    read_only: bool | None = field(
        "Whether it changes nothing (readOnlyHint). Default: whether it is a GET.", default=None
    )
    destructive: bool | None = field(
        "Whether it may delete or overwrite (destructiveHint). Default: unless it is a GET.", default=None
    )
    idempotent: bool | None = field(
        "Whether a second call adds nothing (idempotentHint), so that it may be tried again. Default: whether it is a "
        "GET, PUT or DELETE.",
        default=None,
    )
    rate_limit: RateLimit | None = field("Rate limit of the tool's calls.", default=None)
    price: float | None = field(
        "Dollars that a call costs, which count for the tenant's budgets that have no `match`.",
        default=None,
        between=(0, 1_000),
    )
    cache: McpCache | None = field(
        "Results that are given again for the same arguments, of a tool that is `read_only`. Default: none.",
        default=None,
    )
    max_arguments_kb: int | None = field(
        "Largest arguments of a call.", default=None, between=(1, 16_384), unit="KiB"
    )
    max_result_kb: int | None = field(
        "Largest result of a call; a larger one is an error of the tool.",
        default=None,
        between=(1, 16_384),
        unit="KiB",
    )
    approved: str | None = field(
        "Fingerprint of the tool as it was approved, written by `tenantgate mcp approve`: the tool isn't offered once "
        "it is another one.",
        default=None,
        match=_FINGERPRINT,
    )


@config_class
class McpToolsFile:
    """A file of tools, as `tenantgate mcp suggest` writes it."""

    tools: tuple[McpTool, ...] = field("Tools that are offered.", default=(), len_max=1000)


@config_class
class McpServer:
    """An MCP server at `/v1/mcp/NAME`: tools of an API, those of a remote MCP server, or the tenant's models."""

    name: str = field("Name of the server, in its path.", match=_SERVER, len_max=40)
    title: str | None = field("Title for people.", default=None, len_max=200)
    instructions: str | None = field("What models are told of the server.", default=None, len_max=8_192)
    openapi: str | None = field(
        "OpenAPI document (3.0 or 3.1; JSON or YAML) of the API: a file, relative to this one, or a URL. It is read by "
        "`tenantgate apply`, never while requests are handled.",
        default=None,
        len_min=1,
        len_max=2_000,
    )
    upstream: str | None = field(
        "URL of the API, to which the document's paths are appended.", default=None, match=_URL, address=True
    )
    remote: str | None = field(
        "URL of a remote MCP server, in place of `openapi` and `upstream`.",
        default=None,
        match=_URL,
        address=True,
    )
    models: tuple[str, ...] = field(
        "Names or aliases of the tenant's models that are tools, `fast` as `ask-fast`, in place of `openapi` and "
        "`upstream`. A call is a request like the client's own: the same limits, budgets, guards, cache and failover. "
        "`tools` says more of one.",
        default=(),
        len_max=100,
    )
    revision: str = field(
        "Revision of the protocol in which a remote server is asked. It must not demand a session.",
        default="2026-07-28",
        one_of=("2026-07-28", "2025-11-25", "2025-06-18"),
    )
    tools: tuple[McpTool, ...] = field(
        "Tools that are offered; what isn't named here or in `tools_file` isn't.", default=(), len_max=1000
    )
    tools_file: str | None = field(
        "File with further `tools`, relative to this one, as `tenantgate mcp suggest` writes it.",
        default=None,
        len_min=1,
        len_max=2_000,
    )
    default_acl: McpAcl | None = field(
        "Who may see and call tools without an `acl`. Default: as the document says, else all.", default=None
    )
    credential: str | None = field(
        "What the API knows the gateway by; clients' own credentials are never passed on.",
        default=None,
        referenceable=True,
    )
    credential_in: str = field("Where the credential is sent.", default="header", one_of=("header", "query"))
    credential_name: str = field(
        "Header or parameter of the query that holds the credential.", default="Authorization", match=_HEADER
    )
    credential_prefix: str | None = field(
        "Text before the credential. Default: `Bearer ` in the header Authorization, else none.",
        default=None,
        len_max=40,
    )
    headers: dict[str, str] = field(
        "Headers of each request to the API: texts, or vault references.", default={}, len_max=8_000
    )
    timeout_s: int | None = field(
        "Time-out of a call. Default: 30, with `models` 300.", default=None, between=(1, 600), unit="s"
    )
    retries: int = field(
        "Further tries of a call of an idempotent tool that got no answer, 502, 503 or 504.",
        default=1,
        between=(0, 5),
    )
    max_response_kb: int = field(
        "Largest reply of the API; a larger one is an error of the tool.",
        default=1024,
        between=(1, 16_384),
        unit="KiB",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """It is of one kind, and no secret stands in a header."""
        yield from self._of_one_kind()
        yield from duplicates(self.tools)
        for name, value in self.headers.items():
            at = f"headers.{name}"
            if not re.fullmatch(_HEADER, name) or name.lower() in _NOT_OURS:
                yield at, "is no header that can be set here"
            elif value.startswith(_REFERENCE):
                continue
            elif _SECRET.search(name):
                yield at, "a secret given as a plain value; write a vault reference, {vault://env/NAME}"
            elif not value.isascii() or not value.isprintable():
                yield at, "must be printable ASCII"

    def _of_one_kind(self) -> Iterator[tuple[str, str]]:
        if (self.openapi is not None) + (self.remote is not None) + bool(self.models) != 1:
            yield "", "needs either openapi and upstream, or remote, or models"
        if self.openapi is not None and self.upstream is None:
            yield "upstream", "required with openapi"
        if self.remote is not None and self.upstream is not None:
            yield "upstream", "is of an API; a remote MCP server has remote alone"
        if self.models:
            for name in ("upstream", "credential", "tools_file"):
                if getattr(self, name) is not None:
                    yield name, "isn't used with models, which the gateway asks by itself"
            if self.headers:
                yield "headers", "aren't used with models, which the gateway asks by itself"
        elif not self.tools and self.tools_file is None:
            yield "tools", "required, or tools_file: nothing is offered unless it is named"


def duplicates(tools: tuple[McpTool, ...]) -> Iterator[tuple[str, str]]:
    """Names that two tools have, by their names or by those that clients see."""
    for kind, names in (("name", [t.name for t in tools]), ("rename", [t.rename or t.name for t in tools])):
        seen: dict[str, int] = {}
        for i, name in enumerate(names):
            first = seen.setdefault(name, i)
            if first != i and (kind == "name" or tools[i].name != tools[first].name):
                yield f"tools[{i}].{kind}", f"{name!r} is tools[{first}] already"
