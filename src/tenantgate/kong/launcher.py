"""``tenantgate-pluginserver``: run one plugin for Kong, or describe it.

    tenantgate-pluginserver --plugin plugins/NAME.py --socket /run/kong/NAME.socket
    tenantgate-pluginserver --plugin plugins/NAME.py --dump

In kong.conf: `pluginserver_NAME_socket`, `pluginserver_NAME_start_cmd` (the first) and
`pluginserver_NAME_query_cmd` (the second).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tenantgate import __version__
from tenantgate.errors import ConfigError, TenantgateError
from tenantgate.kong import health
from tenantgate.kong.child import Heart
from tenantgate.kong.limits import Limits
from tenantgate.kong.listen import PRIVATE, Succession, UnixListener, bind_tcp
from tenantgate.kong.loading import PluginFile, load
from tenantgate.kong.output import leave_output
from tenantgate.kong.peers import MOST
from tenantgate.kong.server import Server
from tenantgate.kong.supervisor import supervise
from tenantgate.telemetry import certificates, logs
from tenantgate.telemetry.metrics import show_tenants
from tenantgate.telemetry.tenants import MOST_TENANTS

__all__ = ["main"]

_LOOK_S: Final = 0.1
_ORPHAN_S: Final = 5.0  # to end in, where no watchdog would kill it
_log: Final = logging.getLogger("tenantgate.launcher")


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="tenantgate-pluginserver", description="Run a Python plugin for Kong."
    )
    parser.add_argument("--version", action="version", version=f"tenantgate {__version__}")
    parser.add_argument(
        "--plugin", type=Path, required=True, metavar="FILE", help="the plugin; its name is the file's"
    )
    parser.add_argument(
        "--dump", action="store_true", help="print the plugin's description for Kong, and end"
    )
    parser.add_argument("--socket", type=Path, metavar="PATH", help="where Kong connects (unix socket)")
    parser.add_argument(
        "--socket-mode",
        type=_mode,
        default=PRIVATE,
        metavar="MODE",
        help="permissions of the unix sockets, for a Kong of another user in the same group: 660 (default: 600)",
    )
    parser.add_argument(
        "--processes",
        type=_processes,
        default=1,
        metavar="N",
        help=f"processes that serve, or 'auto': as many as processors, {MOST} at most (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=8, help="threads of a process that run phases (default: %(default)s)"
    )
    parser.add_argument(
        "--queue", type=int, default=256, help="events that may wait for one (default: %(default)s)"
    )
    parser.add_argument(
        "--deadline-ms",
        type=int,
        default=1500,
        help="time for a phase whose plugin names none; keep it below Kong's "
        "nginx_http_lua_socket_read_timeout (default: %(default)s)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--metrics-socket",
        type=Path,
        metavar="PATH",
        help="unix socket for /metrics, /healthz and /readyz (default: beside --socket, NAME.metrics.socket)",
    )
    where.add_argument("--metrics-port", type=int, metavar="PORT", help="a TCP port for these instead")
    parser.add_argument(
        "--metrics-host", default="127.0.0.1", help="the port's address (default: %(default)s)"
    )
    parser.add_argument(
        "--metrics-tenants",
        type=int,
        default=MOST_TENANTS,
        metavar="N",
        help="tenants with series of their own, the busiest ones; all others are counted as 'other' "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--certificates",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a file with certificates, or a folder of such, whose ends are metrics; may be repeated",
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument(
        "--no-supervise", action="store_true", help="serve in this process, without the watchdog"
    )
    return parser


def _mode(text: str) -> int:
    """Permissions in octal: the owner's, and at most the group's; never everybody's."""
    if text not in ("600", "0600", "660", "0660"):
        raise argparse.ArgumentTypeError("must be 600 or 660")
    return int(text, 8)


def _processes(text: str) -> int:
    """A number of processes, or ``auto``."""
    if text == "auto":
        return min(os.cpu_count() or 1, MOST)
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be auto or 1 to {MOST}")


def main(argv: list[str] | None = None) -> int:
    """Run; exit status 0 at the end, 2 for options or a plugin that can't be used."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.dump and args.socket is None:
        parser.error("--socket is required (or --dump)")
    if args.metrics_tenants < 0:
        parser.error("--metrics-tenants must not be negative")
    if args.workers < 1 or args.queue < 1 or args.deadline_ms < 1:
        parser.error("--workers, --queue and --deadline-ms must be at least 1")
    if args.no_supervise and args.processes > 1:
        parser.error("--no-supervise serves with one process")
    try:
        return dump(args.plugin) if args.dump else _serve(args)
    except TenantgateError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def dump(path: Path) -> int:
    """Print Kong's JSON array for the plugin at `path`, and nothing else, to standard output."""
    # Kong reads all of this command's output as JSON, so not even C code may print there meanwhile.
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            text = json.dumps([load(path).description()])
        except TenantgateError:
            raise
        except BaseException as error:  # noqa: BLE001 - the plugin file's own
            raise ConfigError(f"plugin {path.stem}: {_described(error)}") from None
    with os.fdopen(out, "w") as stdout:
        stdout.write(text + "\n")
    return 0


def _described(error: BaseException) -> str:
    found = logs.describe(error)
    return f"{found['error']} at {found.get('at', '?')}: {error}"


def _serve(args: argparse.Namespace) -> int:
    name = args.plugin.stem
    logs.setup(name, args.log_level)
    show_tenants(args.metrics_tenants)
    if not args.plugin.is_file():
        raise ConfigError(f"plugin: no file {args.plugin}")
    plugin_socket = UnixListener(args.socket, args.socket_mode)
    sockets = [plugin_socket]
    if args.metrics_port is not None:
        metrics = bind_tcp(args.metrics_host, args.metrics_port)
    else:
        path = args.metrics_socket or args.socket.with_name(f"{args.socket.stem}.metrics.socket")
        sockets.append(UnixListener(path, args.socket_mode))
        metrics = sockets[-1].sock

    succession = Succession(sockets)

    loaded: list[PluginFile] = []

    def load_once() -> None:
        # What fails here fails again in a server, which says so.
        with contextlib.suppress(Exception):
            loaded.append(_loaded(args.plugin))

    def serve(heart: Heart | None) -> int:
        plugin = loaded[0] if loaded else _loaded(args.plugin)
        return _run(args, plugin, sockets, succession, metrics, heart=heart)

    try:
        if not args.no_supervise:
            return supervise(serve, sockets, args.processes, load=load_once)
        for listener in sockets:
            listener.publish()
        return serve(None)
    finally:
        for listener in sockets:
            listener.unlink()


class Leaving:
    """The end of a server: when nothing is in progress any more, and no newer one needs it to serve on.

    Kong ends a plugin server with the worker that started it, at a reload perhaps before the next one is warm: SIGTERM
    to the watchdog, and SIGKILL a moment later (lua-nginx-module, ngx_http_lua_ffi_pipe_proc_destroy). So a server that
    loses its watchdog decides by itself.
    """

    def __init__(self, server: Server, listeners: Sequence[UnixListener], succession: Succession) -> None:
        self._server, self._listeners, self._parent = server, listeners, os.getppid()
        self._succession = succession
        self._begun = False

    def __call__(self, *_: object) -> None:
        """For a signal."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._follow, name="leaving", daemon=True).start()

    def _follow(self) -> None:
        if os.getppid() != self._parent and self._succession.by_nginx:
            leave_output()  # else Kong would start the next server only after our end
        # The watchdog that lives has waited already.
        while os.getppid() != self._parent and self._succession.needed():
            time.sleep(_LOOK_S)
        if os.getppid() == self._parent:
            self._server.stop()  # the watchdog does the rest
            return
        self._server.stop(drain_s=_ORPHAN_S)
        for one in self._listeners:
            one.unlink()
        time.sleep(2 * _ORPHAN_S)
        os._exit(1)


def _loaded(path: Path) -> PluginFile:
    """The plugin, and whatever holds Python's lock while it is loaded.

    Connections wait meanwhile; a server that took them could only drop them.
    """
    plugin = load(path)
    _attempt(getattr(plugin.module, "load", None), "loading failed")
    return plugin


def _run(
    args: argparse.Namespace,
    plugin: PluginFile,
    sockets: Sequence[UnixListener],
    succession: Succession,
    metrics: socket.socket,
    *,
    heart: Heart | None,
) -> int:
    """The server itself, in this process."""
    limits = Limits(
        workers=args.workers, queue=args.queue, deadline_ms=args.deadline_ms, max_stuck=args.workers
    )
    server = Server(
        plugin.name,
        plugin.plugin,
        sockets[0].sock,
        limits=limits,
        heartbeat=(lambda _: None) if heart is None else heart.beat,
        memory=None if heart is None else heart.memory,
        ledger=None if heart is None else heart.ledger,
        peer=None if heart is None else heart.peer,
    )
    leaving = Leaving(server, sockets, succession)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leaving)
    about: dict[str, str | int] = {
        "plugin": plugin.name,
        "version": plugin.version,
        "restarts": 0 if heart is None else heart.restarts,
        "supervisor": os.getppid(),
    }
    if heart is None:
        health.serve(metrics, server, about)
    else:
        health.serve(metrics, server, about, heart.gathering, heart.index)
    if args.certificates and (heart is None or heart.index == 0):
        certificates.watch(args.certificates)
    warm_up = getattr(plugin.module, "warm_up", None)

    def warm() -> None:
        _attempt(getattr(plugin.plugin, "prepare", None), "warm-up failed")
        _attempt(warm_up, "warm-up failed")
        # What is loaded by now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        server.open()
        logs.event(_log, logging.INFO, "serving", socket=str(args.socket), restarts=about["restarts"])

    server.instances.restore()  # what is loaded before the first event may depend on them
    threading.Thread(target=warm, name="warm-up", daemon=True).start()
    status = server.run()
    _attempt(getattr(plugin.module, "stop", None), "stop failed")
    sys.stderr.flush()
    return status


def _attempt(function: object, failed: str) -> None:
    """Call a function of the plugin's file, if there is one; `failed` is logged where it fails."""
    try:
        if callable(function):
            function()
    except BaseException as error:  # noqa: BLE001 - then the phases fail, each as its `on_error` says
        logs.event(_log, logging.ERROR, failed, **logs.describe(error))


if __name__ == "__main__":
    sys.exit(main())
