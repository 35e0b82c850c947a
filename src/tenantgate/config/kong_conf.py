"""kong.conf: the settings that the rendered kong.yml needs, each with its reason."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath, PurePosixPath
from typing import Final, TypeAlias

from tenantgate import features, secret_files
from tenantgate.errors import ConfigError
from tenantgate.llm.errors import Code, ErrorType, error_body

__all__ = [
    "EGRESS_PORT",
    "LUA_PLUGINS",
    "TLS_LISTEN",
    "KongConfOptions",
    "egress_conf",
    "kong_conf",
    "server_command",
    "socket_path",
]

PathText: TypeAlias = str | PurePath
_ENGINE: Final = "tenantgate"
LUA_PLUGINS: Final = (
    "tenantgate-keys",
    "tenantgate-request",
    "tenantgate-target",
    "tenantgate-failover",
    "tenantgate-format",
    "tenantgate-mcp",
)
"""Plugins in Lua around the engine, below `KongConfOptions.plugins_dir`."""
EGRESS_PORT: Final = 8199
TLS_LISTEN: Final = "0.0.0.0:8443 ssl"
"""Where clients are served by TLS, where tenants.yaml has certificates."""
_SOCKET_MAX: Final = 107  # sun_path of Linux without its final zero


@dataclass(frozen=True, slots=True, kw_only=True)
class KongConfOptions:
    """Where things lie. The defaults are the container's."""

    prefix: PathText = "/kong_prefix"
    """Kong's working folder, for its sockets too. Not /usr/local/kong, which holds libraries of Kong's own: a
    container whose files are read-only needs a folder that can be a volume. The Helm chart has the same."""
    declarative_config: PathText = "/etc/tenantgate/kong.yml"
    postgres: bool = False
    """Whether Kong has a PostgreSQL, which its settings `pg_…` or the environment's `KONG_PG_…` name. It is configured
    by the Admin API then, and something else than Kong starts the plugin servers: with a start command of one Kong
    3.9.3 answers 500 to the Admin API's `GET /`, which decK and others ask for first."""
    sockets: PathText = "/run/tenantgate"
    """With `postgres`: the folder of the plugin servers' sockets."""
    plugins_dir: PathText = "/opt/tenantgate/plugins"
    pluginserver: PathText = "/opt/tenantgate/venv/bin/tenantgate-pluginserver"
    models_dir: PathText | None = "/opt/tenantgate/models"
    """Where the plugin servers find their models; None: where `tenantgate models path` says."""
    proxy_listen: str = "0.0.0.0:8000"
    admin_listen: str = "off"
    """Whoever reaches the Admin API can replace the configuration: off, or loopback."""
    status_listen: str = "127.0.0.1:8100"
    max_request_body_mb: int = 4
    """`gateway.limits.max_request_body_mb` of tenants.yaml."""
    ca_bundle: PathText | None = "/etc/ssl/certs/ca-certificates.crt"
    """Authorities that a provider's certificate is checked against; None: not checked, as Kong has it."""
    secrets_dir: PathText = secret_files.FOLDER
    """Where ``{vault://file/NAME}`` finds the file NAME."""
    egress_include: PathText = "/etc/kong/tenantgate-egress.conf"
    """Where the file lies that `egress_conf` writes."""
    egress_port: int = EGRESS_PORT
    """Port of the loopback proxy, through which requests leave that may fail over, or have an egress list."""
    processes: str = "auto"
    """Of the engine: a number, or ``auto``, which is as many as processors."""
    attached: tuple[str, ...] = ()
    """Plugins that are attached to routes one by one, beside the engine: each is a process of its own."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """More settings, or other values for these."""


def socket_path(options: KongConfOptions, plugin: str) -> PurePosixPath:
    """The unix socket of a plugin's server."""
    name, folder = ("sockets", options.sockets) if options.postgres else ("prefix", options.prefix)
    path = PurePosixPath(folder, f"{plugin}.socket")
    if len(str(path).encode()) > _SOCKET_MAX:
        raise ConfigError(f"{name}: {path} is too long for a unix socket ({_SOCKET_MAX} bytes at most)")
    return path


def server_command(options: KongConfOptions, plugin: str) -> list[str]:
    """The command that starts a plugin's server."""
    # nginx clears the environment of its workers, which start the servers; so `env` sets it.
    env = ["/usr/bin/env", f"TENANTGATE_MODELS={options.models_dir}"] if options.models_dir else []
    engine = ["--processes", options.processes, "--certificates", str(options.secrets_dir)]
    own = engine if plugin == _ENGINE else []
    return [*env, *_program(options, plugin), *own, "--socket", str(socket_path(options, plugin))]


def _program(options: KongConfOptions, plugin: str) -> list[str]:
    return [str(options.pluginserver), "--plugin", f"{options.plugins_dir}/{plugin}.py"]


def kong_conf(options: KongConfOptions | None = None) -> str:
    """The text of kong.conf."""
    options = options or KongConfOptions()
    lines: list[str] = ["# Written by `tenantgate render --kong-conf`."]
    given = dict(options.extra)
    for comment, settings in _settings(options):
        lines += ["", *(f"# {line}" for line in comment.splitlines())]
        lines += [f"{name} = {_value(name, given.pop(name, value))}" for name, value in settings.items()]
    if given:
        lines += ["", *(f"{name} = {_value(name, value)}" for name, value in sorted(given.items()))]
    return "\n".join(lines) + "\n"


def egress_conf(options: KongConfOptions | None = None) -> str:
    """The text of the nginx file that kong.conf includes: the loopback proxy, through which requests leave."""
    options = options or KongConfOptions()
    # A provider's certificate is always checked here; without authorities no TLS connection comes about.
    trusted = f"    lua_ssl_trusted_certificate {options.ca_bundle};\n" if options.ca_bundle else ""
    unavailable = error_body(
        "The gateway could not process this request. Please try again.",
        kind=ErrorType.SERVER,
        code=Code.TENANTGATE_UNAVAILABLE,
    )
    return _EGRESS.format(
        port=options.egress_port,
        trusted=trusted,
        unavailable=unavailable.decode(),
        body=2 * options.max_request_body_mb,  # memory, not a file
    )


_EGRESS: Final = """\
# Written by `tenantgate render --egress-conf`.

# The loopback proxy. It takes orders of the plugin tenantgate-failover alone: they bear a token that is never written
# anywhere.
server {{
    server_name tenantgate_egress;
    listen 127.0.0.1:{port};
    access_log off;
    default_type '';

    # Kong has limited the client's body; the provider's format may be longer.
    client_max_body_size 0;
    client_body_buffer_size {body}m;
    client_body_in_single_buffer on;
    # An order holds the egress lists.
    large_client_header_buffers 4 256k;
    keepalive_requests 100000;
    # A client that leaves ends the provider's work.
    lua_check_client_abort on;

{trusted}\
    lua_ssl_verify_depth 5;
    lua_ssl_protocols TLSv1.2 TLSv1.3;
    # Whatever `ssl_cipher_suite` says.
    lua_ssl_conf_command CipherString DEFAULT:@SECLEVEL=2;

    # What nginx itself refuses, such as an order that is too large, is JSON, too: ai-proxy can't take anything else.
    error_page 400 403 413 414 494 500 502 503 504 =503 /unavailable;
    location = /unavailable {{
        internal;
        default_type application/json;
        return 503 '{unavailable}';
    }}
    location / {{
        content_by_lua_block {{
            require("kong.plugins.tenantgate-failover.hop").serve()
        }}
    }}
}}
"""


def _value(name: str, value: str) -> str:
    if "\n" in value or "#" in value:
        raise ConfigError(f"kong.conf {name}: Kong reads a line up to the first '#'")
    return value


def _settings(options: KongConfOptions) -> list[tuple[str, dict[str, str]]]:
    size = f"{options.max_request_body_mb}m"
    out = [
        (
            "Without a database: the rendered file is the whole configuration.",
            {
                "prefix": str(options.prefix),
                "database": "off",
                "declarative_config": str(options.declarative_config),
            },
        )
        if not options.postgres
        else (
            """With a database, which KONG_PG_HOST, KONG_PG_USER, KONG_PG_PASSWORD and KONG_PG_DATABASE name. What
`tenantgate apply` changes acts after the sum of both times, on all nodes.""",
            {
                "prefix": str(options.prefix),
                "database": "postgres",
                "db_update_frequency": "1",
                "worker_state_update_frequency": "1",
            },
        ),
        (
            "The Admin API can replace the configuration: loopback only."
            if options.postgres
            else "The Admin API could replace the configuration, so it is off; `kong reload` reads the file anew.",
            {
                "proxy_listen": options.proxy_listen,
                "admin_listen": options.admin_listen,
                "admin_gui_listen": "off",
                "status_listen": options.status_listen,
            },
        ),
        ("", {"log_level": "notice", "anonymous_reports": "off"}),
        (
            """Bodies up to the limit stay in memory. With the default of 8k longer prompts go to disk, where
ai-proxy answers 400 to them.""",
            {"nginx_http_client_body_buffer_size": size, "nginx_http_client_max_body_size": size},
        ),
        (
            """Replies up to 16 MB that are held back, or that a client is slow to read, stay in memory; with the
default of 64k longer ones go to disk. Without any file (proxy_max_temp_file_size = 0) Kong's buffering hangs.""",
            {"nginx_proxy_proxy_buffers": "256 64k", "nginx_proxy_proxy_buffer_size": "64k"},
        ),
        (
            """How long a request waits for a plugin server that doesn't answer; the default is a minute.
Keep the plugin servers' deadlines below it.""",
            {"nginx_http_lua_socket_read_timeout": "2s"},
        ),
        (
            "A few lines of Lua on the routes note why a stream ended, and don't tell providers who called.",
            {"untrusted_lua": "sandbox"},
        ),
        (
            "{vault://env/NAME} reads Kong's own environment, {vault://file/NAME} a file, which may change meanwhile.",
            {"vaults": "bundled,file", secret_files.SETTING: str(options.secrets_dir)},
        ),
    ]
    if options.ca_bundle:
        out.append(
            (
                "Kong by default checks no upstream's certificate; providers get credentials, so theirs are.",
                {
                    "nginx_proxy_proxy_ssl_verify": "on",
                    "nginx_proxy_proxy_ssl_verify_depth": "5",
                    "nginx_proxy_proxy_ssl_trusted_certificate": str(options.ca_bundle),
                },
            )
        )
    out.append(
        (
            """The loopback proxy, through which requests leave that may fail over, or have an egress list. By its 503
it asks for another try; nothing else is tried twice, and a service with `retries: 0` not at all.""",
            {
                "nginx_http_include": str(options.egress_include),
                "nginx_http_lua_shared_dict": "tenantgate_tries 16m",
                "nginx_proxy_proxy_next_upstream": "error timeout http_503",
            },
        )
    )
    known = [plugin.name for plugin in features.plugins()]
    if unknown := sorted({*options.attached}.difference(known)):
        raise ConfigError(f"plugins: {unknown[0]} is none of {', '.join(known)}")
    plugins = [_ENGINE, *(name for name in known if name in options.attached)]
    servers: dict[str, str] = {
        "plugins": ",".join(["bundled", *LUA_PLUGINS, *plugins]),
        "lua_package_path": f"{options.plugins_dir}/?.lua;;",
        "pluginserver_names": ",".join(plugins),
    }
    for name in plugins:
        # kong/conf_loader/init.lua: the name in lower case, "-" as "_".
        key = f"pluginserver_{name.replace('-', '_')}"
        servers[f"{key}_socket"] = str(socket_path(options, name))
        if not options.postgres:
            servers[f"{key}_start_cmd"] = shlex.join(server_command(options, name))
        servers[f"{key}_query_cmd"] = shlex.join([*_program(options, name), "--dump"])
    starting = (
        """Kong 3.9 takes one plugin per server. systemd or another supervisor starts them: with a start command the
Admin API's `GET /` is a 500."""
        if options.postgres
        else "Kong 3.9 takes one plugin per server. The engine has as many processes as processors."
    )
    out.append((starting, servers))
    return out
