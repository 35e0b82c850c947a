"""The MCP servers of a tenant, from tenants.yaml and documents to plain values for its record. Pure but for parsing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from tenantgate import fields
from tenantgate.errors import ConfigError
from tenantgate.mcp.core.models import model_tool, name_of
from tenantgate.mcp.core.openapi.document import Document, DocumentError
from tenantgate.mcp.core.openapi.operations import Listed, default_acl, listed, server_urls
from tenantgate.mcp.core.openapi.tools import Made, Overrides, ToolMaker
from tenantgate.mcp.core.stored import to_record
from tenantgate.mcp.core.tool import Acl, Credential, RemoteTool, Server, Tool
from tenantgate.mcp.documents import parse_yaml, read_document
from tenantgate.mcp_config import McpAcl, McpServer, McpTool, McpToolsFile, duplicates

__all__ = ["Api", "compiled", "made_tools", "model_tools", "named_tools", "server_of"]

_BEARER: Final = "Bearer "
_NANO: Final = 1_000_000_000
_KIB: Final = 1024
_TIMEOUT_S: Final = 30
_MODEL_TIMEOUT_S: Final = 300


class Api:
    """A document with its operations, read once for all servers that are made of it.

    Raises:
        ConfigError: the document can't be read; names the place.
    """

    def __init__(self, raw: bytes, name: str) -> None:
        self.name = name
        self.document: Document = read_document(raw, name)
        try:
            self.operations: list[Listed] = listed(self.document)
            self.default_acl: Acl = default_acl(self.document)
        except DocumentError as error:
            raise ConfigError(f"{name}: {error}") from None
        self.servers: frozenset[str] = frozenset(
            [*server_urls(self.document.tree), *(url for op in self.operations for url in op.own_servers[1])]
        )
        """All that the document names, for whatever operations."""
        self._by_name = {op.name: op for op in self.operations if op.name}

    def operation(self, name: str) -> Listed | None:
        """The operation whose tool has this name."""
        return self._by_name.get(name)


@lru_cache(maxsize=8)
def _api(raw: bytes, name: str) -> Api:
    """The API of a document, which many tenants may have."""
    return Api(raw, name)


def compiled(
    servers: Sequence[McpServer], documents: Mapping[str, bytes], limiting: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The servers as their tenant's record holds them.

    Args:
        servers: as tenants.yaml has them, credentials as vault references.
        documents: contents of what the servers name (`openapi`, `tools_file`), by that name.
        limiting: what the stage of limits has of the gateway (`policy`, `on_error`).

    Raises:
        ConfigError: names the server, and the place in the document or the field.
    """
    out = []
    for server in servers:
        try:
            api = None
            if server.openapi is not None:
                api = _api(_content(documents, server.openapi), server.openapi)
            out.append(to_record(server_of(server, api, documents, limiting)))
        except ConfigError as error:
            raise ConfigError(f"mcp {server.name}: {error}") from None
    return out


def server_of(
    config: McpServer, api: Api | None, documents: Mapping[str, bytes], limiting: Mapping[str, Any]
) -> Server:
    """A server with its tools, by the document of its API; None for a remote one, and for one of models.

    Raises:
        ConfigError: a tool isn't there, or can't be made.
    """
    tools = named_tools(config, documents)
    pins = {t.rename or t.name: t.approved for t in tools if t.approved is not None}
    own_acl = None if config.default_acl is None else _acl(config.default_acl)
    if config.models:
        made = list(model_tools(config))
    else:
        made = [] if api is None else [m.tool for _, m in made_tools(config, api, tools)]
    settings = {t.rename or t.name: t for t in tools}
    return Server(
        name=config.name,
        upstream=(config.upstream or config.remote or "").rstrip("/"),
        remote=config.remote is not None,
        revision=config.revision,
        title=config.title or "",
        instructions=config.instructions or "",
        credential=_credential(config),
        headers=dict(config.headers),
        tools=tuple(
            _limited(tool, config.name, settings.get(tool.name), limiting)
            for tool in sorted(made, key=lambda tool: tool.name)
        ),
        allowed=() if config.remote is None else tuple(_remote_tool(config.name, t, limiting) for t in tools),
        default_acl=own_acl or (api.default_acl if api is not None else Acl()),
        pins=pins,
        timeout_ms=(config.timeout_s or (_MODEL_TIMEOUT_S if config.models else _TIMEOUT_S)) * 1000,
        # A prompt that is sent twice is paid twice.
        retries=0 if config.models else config.retries,
        max_response_bytes=config.max_response_kb * 1024,
    )


def named_tools(config: McpServer, documents: Mapping[str, bytes]) -> tuple[McpTool, ...]:
    """The tools that tenants.yaml and the server's file name.

    Raises:
        ConfigError: the file has another form; or a name is there twice.
    """
    tools = config.tools
    if config.tools_file is not None:
        name = config.tools_file
        tree = parse_yaml(_content(documents, name), name)
        found = fields.parse(McpToolsFile, {} if tree is None else tree, where=name, strict=True)
        tools = (*tools, *found.tools)
        for at, what in duplicates(tools):
            raise ConfigError(f"{name}: {at}: {what}")
    return tools


def made_tools(config: McpServer, api: Api, tools: Sequence[McpTool]) -> Iterator[tuple[McpTool, Made]]:
    """The tools of an API, each with what the operator says of it.

    Raises:
        ConfigError: one isn't there, or can't be made.
    """
    fixed = {("header", name) for name in config.headers}
    if config.credential is not None:
        fixed.add((config.credential_in, config.credential_name))
    maker = ToolMaker(api.document, fixed=frozenset(fixed))
    upstream = (config.upstream or "").rstrip("/")
    for tool in tools:
        op = api.operation(tool.name)
        if op is None:
            raise ConfigError(f"tool {tool.name}: {api.name} has no such operation{_close(tool.name, api)}")
        if op.excluded:
            raise ConfigError(f"tool {tool.name}: {api.name}: {op.place} has x-kong-mcp-exclude")
        overrides = Overrides(
            name=tool.rename,
            title=tool.title,
            description=tool.description,
            acl=None if tool.acl is None else _acl(tool.acl),
            read_only=tool.read_only,
            destructive=tool.destructive,
            idempotent=tool.idempotent,
        )
        place, own = op.own_servers
        if place and upstream not in own and upstream in api.servers:
            what = (
                f"is at servers of its own: name it in an MCP server whose `upstream` is {' or '.join(own)}"
            )
            raise ConfigError(f"tool {tool.name}: {api.name}: {place}: {what}")
        try:
            made = maker.tool(op, overrides)
        except DocumentError as error:
            raise ConfigError(f"tool {tool.name}: {api.name}: {error}") from None
        yield tool, made


def _close(name: str, api: Api) -> str:
    import difflib

    close = difflib.get_close_matches(name, [op.name for op in api.operations if op.name], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _content(documents: Mapping[str, bytes], name: str) -> bytes:
    if name not in documents:
        raise ConfigError(f"{name}: hasn't been read")
    return documents[name]


def _acl(config: McpAcl) -> Acl:
    return Acl(allow=config.allow, deny=config.deny)


def _credential(config: McpServer) -> Credential | None:
    if config.credential is None:
        return None
    prefix = config.credential_prefix
    if prefix is None:
        is_bearer = config.credential_in == "header" and config.credential_name.lower() == "authorization"
        prefix = _BEARER if is_bearer else ""
    return Credential(
        reference=config.credential, name=config.credential_name, location=config.credential_in, prefix=prefix
    )


def model_tools(config: McpServer) -> Iterator[Tool]:
    """The tools of a server that offers models, each with what the operator says of it.

    Raises:
        ConfigError: two would have one name, or `tools` names one that isn't there.
    """
    said = {tool.name: tool for tool in config.tools}
    names: dict[str, str] = {}
    for model in config.models:
        own = name_of(model)
        tool = said.pop(own, McpTool(name=own))
        if (tool.read_only, tool.destructive, tool.idempotent) != (None,) * 3:
            raise ConfigError(
                f"tool {own}: of a model's tool read_only, destructive and idempotent can't be set"
            )
        made = model_tool(
            model,
            name=tool.rename or own,
            title=tool.title,
            description=tool.description,
            acl=None if tool.acl is None else _acl(tool.acl),
        )
        if (other := names.setdefault(made.name, model)) != model:
            raise ConfigError(f"models: {model} and {other} would both be {made.name}; rename one of them")
        yield made
    if said:
        raise ConfigError(
            f"tool {next(iter(said))}: models has no such model; tools are called `ask-` and its name"
        )


def _limited(tool: Tool, server: str, said: McpTool | None, limiting: Mapping[str, Any]) -> Tool:
    """A tool with what the operator says of its calls."""
    if said is None:
        return tool
    if said.cache is not None and (tool.model or not tool.annotations.read_only):
        why = "models have the section `cache`" if tool.model else "only a tool that is read_only has one"
        raise ConfigError(f"tool {said.name}: cache: {why}")
    return replace(
        tool,
        limit=_limit(server, said, limiting) if said.rate_limit is not None else {},
        price_nano=round((said.price or 0) * _NANO),
        cache_s=0 if said.cache is None else said.cache.ttl,
        max_arguments_bytes=(said.max_arguments_kb or 0) * _KIB,
        max_result_bytes=(said.max_result_kb or 0) * _KIB,
    )


def _remote_tool(server: str, tool: McpTool, limiting: Mapping[str, Any]) -> RemoteTool:
    if (
        tool.rename
        or tool.title
        or tool.description
        or (tool.read_only, tool.destructive, tool.idempotent, tool.cache) != (None,) * 4
    ):
        text = (
            "of a remote server's tool only acl, rate_limit, price, max_arguments_kb, max_result_kb and approved can "
            "be set"
        )
        raise ConfigError(f"tool {tool.name}: {text}")
    return RemoteTool(
        name=tool.name,
        acl=None if tool.acl is None else _acl(tool.acl),
        limit=_limit(server, tool, limiting) if tool.rate_limit is not None else {},
        price_nano=round((tool.price or 0) * _NANO),
        max_arguments_bytes=(tool.max_arguments_kb or 0) * _KIB,
        max_result_bytes=(tool.max_result_kb or 0) * _KIB,
    )


def _limit(server: str, tool: McpTool, limiting: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the stage of limits, under the name of a model that no provider has."""
    assert tool.rate_limit is not None  # noqa: S101 - asked before
    return {
        "model": fields.plain(tool.rate_limit),
        "model_name": f"mcp/{server}/{tool.rename or tool.name}",
        **limiting,
    }
