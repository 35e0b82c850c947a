"""``tenantgate mcp suggest | inspect | diff | approve | try``: tools of MCP servers, before clients see them."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import ssl
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tenantgate.apply.commands import Site, file_arguments, site_of
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.documents import documents, read_location
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.mcp.compiling import Api, made_tools, model_tools, named_tools, server_of
from tenantgate.mcp.core.calls import Caller
from tenantgate.mcp.core.openapi.changes import changes
from tenantgate.mcp.core.openapi.document import DocumentError
from tenantgate.mcp.core.openapi.operations import Listed
from tenantgate.mcp.core.openapi.tools import Made, ToolMaker
from tenantgate.mcp.core.replies import ReplyReader
from tenantgate.mcp.core.tool import Acl, ArgumentError, Server, Tool, UpstreamRequest
from tenantgate.mcp_config import McpServer, McpTool

__all__ = ["mcp"]

_FINGERPRINT: Final = "approved"
_BYTES_PER_TOKEN: Final = 4.2
_MANY_TOKENS: Final = 2_000


def mcp(parser: argparse.ArgumentParser) -> None:
    """Add ``mcp suggest | inspect | diff | approve | try``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    suggest = actions.add_parser("suggest", help="list a document's operations: cost in tokens, gaps, risk")
    suggest.add_argument(
        "document", metavar="DOCUMENT", help="OpenAPI 3.0 or 3.1, JSON or YAML: a file or a URL"
    )
    suggest.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write a file of tools (`tools_file`): what only reads is named, the rest is there as comments",
    )
    suggest.add_argument("--force", action="store_true", help="overwrite that file")
    suggest.set_defaults(func=_suggest)
    inspect = actions.add_parser(
        "inspect",
        help="show a tenant's tools as clients see them; exit status 1 if one isn't as it was approved",
    )
    _server_arguments(inspect)
    inspect.add_argument("--tool", metavar="TOOL", help="all of this tool, as JSON")
    inspect.set_defaults(func=_inspect)
    diff = actions.add_parser(
        "diff", help="what another version of a document changes in tools; exit status 1 if anything"
    )
    diff.add_argument("old", metavar="OLD", help="a document: a file or a URL")
    diff.add_argument("new", metavar="NEW", help="its other version")
    diff.set_defaults(func=_diff)
    approve = actions.add_parser(
        "approve", help="pin tools: write their fingerprints into the server's `tools_file`"
    )
    _server_arguments(approve)
    approve.add_argument(
        "--tool", action="append", default=[], metavar="TOOL", help="one of them, may be given several times"
    )
    approve.add_argument("--all", action="store_true", help="all tools of the server")
    approve.set_defaults(func=_approve)
    attempt = actions.add_parser("try", help="call a tool from here: the request, and the result")
    attempt.add_argument("tool", metavar="TOOL", help="name of the tool")
    attempt.add_argument(
        "arguments",
        nargs="*",
        metavar="NAME=VALUE",
        help="arguments; values are JSON, or texts where the schema says so",
    )
    attempt.add_argument("--json", dest="whole", metavar="JSON", help="all arguments as one JSON object")
    attempt.add_argument("--dry-run", action="store_true", help="show the request, send nothing")
    _server_arguments(attempt, positional=False)
    attempt.set_defaults(func=_try)


def _server_arguments(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    file_arguments(parser, positional=positional)
    parser.add_argument("--tenant", metavar="ID", help="the tenant (default: the only one with MCP servers)")
    parser.add_argument("--server", metavar="NAME", help="the server (default: the tenant's only one)")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The server that a command is about."""

    site: Site
    tenant: str
    config: McpServer
    documents: Mapping[str, bytes]
    api: Api | None
    tools: tuple[McpTool, ...]

    def made(self) -> list[tuple[McpTool, Made]]:
        """Its tools, by what the operator calls them; empty for a remote server."""
        if self.config.models:
            said = {t.rename or t.name: t for t in self.tools}
            tools = model_tools(self.config)
            return [(said.get(t.name, McpTool(name=t.name)), Made(tool=t)) for t in tools]
        return [] if self.api is None else list(made_tools(self.config, self.api, self.tools))

    def request(self, tool: Tool) -> str:
        """What a call of one of its tools asks."""
        if tool.model:
            return f"the model {tool.model}"
        return f"{tool.operation.method} {(self.config.upstream or '').rstrip('/')}{tool.operation.path}"


def _chosen(args: argparse.Namespace) -> _Chosen:
    names = ("given", "file", "state_dir", "policy_path")
    site = site_of(**{name: getattr(args, name, None) for name in names})
    tenants = [t for t in site.file.tenants if t.mcp and args.tenant in (None, t.id)]
    tenant = _only(tenants, lambda t: t.id, "--tenant", "tenant with MCP servers")
    config = _only(
        [s for s in tenant.mcp if args.server in (None, s.name)], lambda s: s.name, "--server", "MCP server"
    )
    read = documents(site.file, site.folder)
    api = None if config.openapi is None else Api(read[config.openapi], config.openapi)
    return _Chosen(site, tenant.id, config, read, api, named_tools(config, read))


def _only(found: Sequence[Any], name: Callable[[Any], str], option: str, what: str) -> Any:
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"{option}: there is no such {what}")
    raise ConfigError(f"{option}: give one of {', '.join(map(name, found))}")


# suggest


def _suggest(args: argparse.Namespace) -> int:
    api = Api(read_location(args.document, Path.cwd()), args.document)
    if args.output is not None and args.output.exists() and not args.force:
        raise ConfigError(f"--output: {args.output} is there already; --force overwrites it")
    rows = list(_rows(api, _token_counter()))
    for row in rows:
        print(row.line())
    usable = [row for row in rows if row.made is not None]
    print(
        f"{len(rows)} operations, {len(usable)} could be tools: {sum(r.tokens for r in usable)} tokens together, "
        f"{sum(r.tokens for r in usable if r.read_only)} those that only read",
        file=sys.stderr,
    )
    servers = api.document.tree.get("servers")
    for server in servers if isinstance(servers, list) else ():
        if isinstance(server, Mapping) and isinstance(server.get("url"), str):
            print(f"upstream by the document: {_shown(server['url'])}", file=sys.stderr)
    if args.output is not None:
        args.output.write_text(_tools_file(args.document, rows), encoding="utf-8")
        print(f"{args.output}: written; read it before you name it as `tools_file`", file=sys.stderr)
    return 0


@dataclass(frozen=True, slots=True)
class _Row:
    """An operation, and what there is to know before it becomes a tool."""

    op: Listed
    made: Made | None
    tokens: int
    problem: str

    @property
    def read_only(self) -> bool:
        return self.made is not None and self.op.annotations.read_only

    @property
    def risk(self) -> str:
        if self.op.annotations.read_only:
            return "reads"
        return {"POST": "writes", "DELETE": "deletes"}.get(self.op.method, "overwrites")

    def remarks(self) -> Iterator[str]:
        if self.problem:
            yield f"no tool: {self.problem}"
        if self.op.excluded:
            yield "excluded by the document"
        if self.op.deprecated:
            yield "deprecated"
        if self.made is not None:
            tool = self.made.tool
            if not tool.description:
                yield "no description"
            bare = [n for n, s in tool.input_schema["properties"].items() if "description" not in s]
            if bare:
                yield f"arguments without description: {', '.join(bare[:4])}{' …' if len(bare) > 4 else ''}"
            if self.tokens > _MANY_TOKENS:
                yield "costs many tokens"
            if servers := self.op.own_servers[1]:
                yield f"needs the upstream {' or '.join(servers)}"
            if self.made.cut:
                yield f"{self.made.cut} parts of its schemas stay open"
            yield from (f"{what} ({place})" for place, what in self.made.notes[:3])

    def line(self) -> str:
        """For people: name, tokens, risk, request, remarks."""
        name = self.op.name or "-"
        head = f"{name:<40} {self.tokens:>6}  {self.risk:<10}  {self.op.method} {_shown(self.op.path)}"
        return f"{head}  {'; '.join(map(_shown, self.remarks()))}".rstrip()


def _rows(api: Api, count: Callable[[str], int]) -> Iterator[_Row]:
    maker = ToolMaker(api.document)
    for op in api.operations:
        try:
            made = maker.tool(op)
        except DocumentError as error:
            yield _Row(op, None, 0, f"{error.place}: {error.what}")
        else:
            yield _Row(op, None if op.excluded else made, count(json.dumps(_listed(made.tool))), "")


def _tools_file(document: str, rows: Sequence[_Row]) -> str:
    lines = [
        f"# Tools of {document}, as `tenantgate mcp suggest` has found them.",
        "# Only what is named is offered. Fewer tools, well described, work better than many.",
        "tools:",
    ]
    if not any(row.read_only and not row.op.deprecated for row in rows):
        lines[-1] = "tools: []"
    for row in rows:
        if row.made is None:
            continue
        mark = "" if row.read_only and not row.op.deprecated else "# "
        remarks = "; ".join([f"{row.tokens} tokens", row.risk, *map(_shown, row.remarks())])
        lines.append(f"  # {row.op.method} {_shown(row.op.path)}: {remarks}")
        lines.append(f"  {mark}- name: {row.op.name}")
        if not row.made.tool.description:
            lines.append(f"  {mark}  description: TODO")
    return "\n".join(lines) + "\n"


def _listed(tool: Tool) -> dict[str, Any]:
    """A tool as `tools/list` shows it."""
    hints = tool.annotations
    made: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.input_schema,
    }
    if tool.title:
        made["title"] = tool.title
    if tool.output_schema is not None:
        made["outputSchema"] = tool.output_schema
    made["annotations"] = {
        "readOnlyHint": hints.read_only,
        "destructiveHint": hints.destructive,
        "idempotentHint": hints.idempotent,
        "openWorldHint": hints.open_world,
    }
    return made


def _token_counter() -> Callable[[str], int]:
    """Tokens of a text by OpenAI's vocabulary, exactly; where it isn't there, about."""
    try:
        import quicktok

        encoding = quicktok.get_encoding("o200k_base")
    except Exception:  # noqa: BLE001 - a platform without the library still gets its list
        return lambda text: round(len(text) / _BYTES_PER_TOKEN)
    return lambda text: int(encoding.count(text))


# inspect


def _inspect(args: argparse.Namespace) -> int:
    chosen = _chosen(args)
    if chosen.config.remote is not None:
        for one in chosen.tools:
            print(f"{one.name}  of {chosen.config.remote}, {one.approved or 'not pinned'}")
        return 0
    count = _token_counter()
    changed = 0
    total = 0
    for named, made in chosen.made():
        tool = made.tool
        if args.tool not in (None, tool.name):
            continue
        if named.approved is None:
            state = "not pinned"
        else:
            state = "approved" if named.approved == tool.fingerprint else "CHANGED since it was approved"
        changed += state.startswith("CHANGED")
        if args.tool is not None:
            acl = tool.acl or (chosen.api.default_acl if chosen.api is not None else Acl())
            shown = {**_listed(tool), "fingerprint": tool.fingerprint, "state": state}
            shown["request"] = chosen.request(tool)
            shown["acl"] = {"allow": acl.allow, "deny": acl.deny}
            shown["left out"] = [f"{place}: {what}" for place, what in made.notes]
            print(json.dumps(shown, indent=2, ensure_ascii=False))
            return int(changed > 0)
        tokens = count(json.dumps(_listed(tool)))
        total += tokens
        asked = tool.model or f"{tool.operation.method} {_shown(tool.operation.path)}"
        print(f"{tool.name:<40} {tokens:>6}  {state}  {asked}")
    if args.tool is not None:
        raise ConfigError(f"--tool: {chosen.config.name} has no tool {args.tool}")
    print(f"{len(chosen.made())} tools, {total} tokens in each list", file=sys.stderr)
    return int(changed > 0)


# diff


def _diff(args: argparse.Namespace) -> int:
    found = [_all_tools(location) for location in (args.old, args.new)]
    lines = list(changes(found[0], found[1]))
    for line in lines:
        print(line)
    return int(bool(lines))


def _all_tools(location: str) -> dict[str, Tool | None]:
    api = Api(read_location(location, Path.cwd()), location)
    maker = ToolMaker(api.document)
    made: dict[str, Tool | None] = {}
    for op in api.operations:
        if op.excluded or not op.name:
            continue
        try:
            made[op.name] = maker.tool(op).tool
        except DocumentError:
            made[op.name] = None
    return made


# approve


def _approve(args: argparse.Namespace) -> int:
    chosen = _chosen(args)
    if bool(args.tool) == args.all:
        raise ConfigError("needs either --tool or --all")
    if chosen.config.remote is not None:
        raise ConfigError("tools of a remote MCP server aren't known here; write `approved` yourself")
    made = chosen.made()
    if unknown := set(args.tool).difference(m.tool.name for _, m in made):
        raise ConfigError(f"--tool: {chosen.config.name} has no tool {min(unknown)}")
    in_file = {t.name for t in chosen.tools} - {t.name for t in chosen.config.tools}
    path = chosen.site.folder / (chosen.config.tools_file or "")
    text = path.read_text(encoding="utf-8") if in_file else ""
    for named, found in made:
        tool = found.tool
        if (not args.all and tool.name not in args.tool) or named.approved == tool.fingerprint:
            continue
        if named.name in in_file:
            text = _with_pin(text, named.name, tool.fingerprint, str(path))
            print(f"{tool.name}: approved")
        else:
            print(
                f"{tool.name}: write into {args.file or args.given or 'tenants.yaml'}: "
                f"{_FINGERPRINT}: {tool.fingerprint}"
            )
    if in_file:
        replacement = path.with_name(f".{path.name}.new")
        replacement.write_text(text, encoding="utf-8")
        replacement.replace(path)
    return 0


def _with_pin(text: str, name: str, fingerprint: str, where: str) -> str:
    """A file of tools with the fingerprint of one; comments and all else stay."""
    lines = text.splitlines()
    start = next(
        (
            i
            for i, s in enumerate(lines)
            if re.fullmatch(rf"\s*- name: *[\"']?{re.escape(name)}[\"']?\s*(#.*)?", s)
        ),
        None,
    )
    if start is None:
        raise ConfigError(f"{where}: tool {name}: must begin with a line `- name: {name}`")
    indent = " " * (lines[start].index("-") + 2)
    end = start + 1
    while (
        end < len(lines) and lines[end].startswith(indent) and not lines[end][len(indent) :].startswith("#")
    ):
        end += 1
    kept = [s for s in lines[start + 1 : end] if not s.startswith(f"{indent}{_FINGERPRINT}:")]
    lines[start + 1 : end] = [f"{indent}{_FINGERPRINT}: {fingerprint}", *kept]
    return "\n".join(lines) + "\n"


# try


def _try(args: argparse.Namespace) -> int:
    chosen = _chosen(args)
    if chosen.api is None:
        raise ConfigError(
            "tools of a remote MCP server, and of models, can't be tried here: they need the gateway"
        )
    server = server_of(chosen.config, chosen.api, chosen.documents, {})
    tool = next((t for t in server.tools if t.name == args.tool), None)
    if tool is None:
        raise ConfigError(
            f"{server.name} has no tool {args.tool}; it has {', '.join(t.name for t in server.tools)}"
        )
    made = Caller(tool).request(_given(args, tool))
    if isinstance(made, ArgumentError):
        print(f"{made.field or 'arguments'}: {made.message}", file=sys.stderr)
        return 1
    print(f"{made.method} {server.upstream}{made.url}")
    for name, value in made.headers:
        print(f"{name}: {value}")
    if made.body:
        print(f"\n{made.body.decode('utf-8', 'replace')}")
    if args.dry_run:
        return 0
    status, kind, body = _sent(server, made, chosen.site.environ)
    result = ReplyReader(tool).result(status, kind, body)
    shown: dict[str, Any] = {"isError": result.is_error, "content": result.content}
    if result.structured is not None:
        shown["structuredContent"] = result.structured
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return int(result.is_error)


def _given(args: argparse.Namespace, tool: Tool) -> Any:
    if args.whole is not None:
        try:
            return json.loads(args.whole)
        except ValueError:
            raise ConfigError("--json: isn't JSON") from None
    made: dict[str, Any] = {}
    for text in args.arguments:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{name[:80]}: must be NAME=VALUE")
        kind = tool.input_schema.get("properties", {}).get(name, {}).get("type")
        try:
            made[name] = value if kind == "string" else json.loads(value)
        except ValueError:
            made[name] = value
    return made


def _sent(server: Server, made: UpstreamRequest, environ: Mapping[str, str]) -> tuple[int, str, bytes]:
    headers = dict(made.headers)
    url = server.upstream + made.url
    for name, value in server.headers.items():
        headers[name] = _resolved(value, environ, f"headers.{name}")
    if (known := server.credential) is not None:
        secret = known.prefix + _resolved(known.reference, environ, "credential")
        if known.location == "header":
            headers[known.name] = secret
        else:
            pair = f"{urllib.parse.quote(known.name)}={urllib.parse.quote(secret, safe='')}"
            url += f"{'&' if '?' in url else '?'}{pair}"
    parts = urllib.parse.urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    options = {"context": ssl.create_default_context()} if parts.scheme == "https" else {}
    connection = kinds[parts.scheme](
        parts.hostname or "", parts.port, timeout=server.timeout_ms / 1000, **options
    )
    try:
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request(made.method, target, body=made.body or None, headers=headers)
        response = connection.getresponse()
        body = response.read(server.max_response_bytes + 1)
        if len(body) > server.max_response_bytes:
            raise EdgeError(f"{server.name}: the reply has more than {server.max_response_bytes} bytes")
        return response.status, response.getheader("Content-Type") or "", body
    except (OSError, http.client.HTTPException) as error:
        raise EdgeError(f"{server.name}: the API can't be asked ({type(error).__name__})") from None
    finally:
        connection.close()


def _resolved(value: str, environ: Mapping[str, str], where: str) -> str:
    """The value of a reference to the environment; a text is itself."""
    if not value.startswith(("{vault://", "${{")):
        return value
    names = placeholders.vault_names(value) or placeholders.names(value)
    found = [environ.get(n) or os.environ.get(n.upper()) for n in names]
    if len(found) != 1 or not found[0]:
        raise ConfigError(f"{where}: the environment has no {', '.join(names) or 'value for its reference'}")
    return found[0]


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text[:300])
