"""Kong's hybrid mode with Tenantgate: one control plane with PostgreSQL, two data planes, on this machine.

    python benchmarks/hybrid.py --kong-bin /path/to/kong [--rounds 3]

The control plane has the Admin API and no traffic; `tenantgate apply` gives it consumers and keys, which it sends to
the data planes. Policies reach them past it: each data plane's engine follows the policies' store in PostgreSQL. Then,
again and again: a tenant comes, a rule blocks, a tenant goes; each time how long both data planes take from the end of
`apply`. At the end the control plane and the database are stopped, and the data planes go on with what they have.
Needs root, since each engine gets a host name and a folder of its own (Linux namespaces).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from live_changes import WORD, Desired, asked, key_of

from tenantgate.apply.admin_api import AdminApi
from tenantgate.bench.live import holds
from tenantgate.devhost.processes import Child
from tenantgate.devhost.real_kong import RealKong
from tenantgate.devhost.redis_server import free_port
from tenantgate.devhost.stack import Stack

PLANES: Final = 2


class DataPlane:
    """A Kong without a database that gets its configuration from the control plane, and its plugin server."""

    def __init__(
        self, stack: Stack, folder: Path, *, binary: Path, cluster: str, certificate: tuple[Path, Path]
    ) -> None:
        self.port = free_port()
        state = stack.secrets_file.parent
        folder.mkdir()
        run = str(stack.run_folder)
        text = (state / "kong.conf").read_text().replace(run, str(folder))
        egress = folder / "egress.conf"
        found = re.search(r"(?m)^nginx_http_include = (.*)$", text)
        assert found
        lines = Path(found[1]).read_text()
        egress.write_text(re.sub(r"listen 127\.0\.0\.1:\d+", f"listen 127.0.0.1:{free_port()}", lines))
        settings = {
            "role": "data_plane",
            "database": "off",
            "proxy_listen": f"127.0.0.1:{self.port}",
            "admin_listen": "off",
            "status_listen": f"127.0.0.1:{free_port()}",
            "cluster_control_plane": cluster,
            "cluster_cert": str(certificate[0]),
            "cluster_cert_key": str(certificate[1]),
            "nginx_http_include": str(egress),
        }
        conf = folder / "kong.conf"
        conf.write_text(with_settings(text, settings))
        # A node has its own copy of the policies, and a name. The copy's path is the same on all nodes, so here each
        # engine sees a folder of its own there.
        copy, policy = folder / "policy", state / "policy"
        copy.mkdir()
        argv = [word.replace(run, str(folder)) for word in stack.server_commands["tenantgate"]]
        alone = f"mount --bind {copy} {policy} && hostname {folder.name} && exec {shlex.join(argv)}"
        argv = ["unshare", "--mount", "--uts", "sh", "-c", alone]
        environ = {"PATH": os.environ["PATH"]}
        self.server = Child(
            f"engine of {folder.name}", argv, log=folder / "engine.log", environ=environ, foreign=True
        )
        self.kong = RealKong(binary, conf, folder, log=folder / "start.log")
        self.kong.start({k: v for k, v in stack.environ.items() if not k.startswith("DECK_")})

    def stop(self) -> None:
        """End both."""
        self.kong.stop()
        self.server.stop()


def with_settings(text: str, settings: dict[str, str]) -> str:
    """A kong.conf with other values for some settings."""
    names = "|".join(settings)
    kept = re.sub(rf"(?m)^({names}) = .*\n", "", text)
    return kept + "".join(f"{name} = {value}\n" for name, value in settings.items())


def until(accept: Callable[[], bool]) -> float:
    """Seconds until five answers in a row are accepted."""
    start = time.monotonic()
    return round(holds(accept, within_s=60, pause_s=0.05, what="a data plane's answer") - start, 2)


def answers(plane: DataPlane, tenant: str, text: str, wanted: int) -> bool:
    """Whether one answer has the status."""
    return asked(plane.port, key_of(tenant), "mock-small", text)[0] == wanted


def apply(stack: Stack, desired: Desired) -> None:
    """`tenantgate apply` to the control plane."""
    stack.tenants.write_text(desired.text())
    words = ["apply", str(stack.tenants), "--state-dir", str(stack.secrets_file.parent)]
    done = subprocess.run(
        [sys.executable, "-m", "tenantgate.cli", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kong-bin", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for name in ("acme", "globex", "initech", "north"):
        os.environ[f"DECK_{name}".upper()] = f"key-of-{name}"
    out: dict[str, Any] = {"tenant comes": [], "rule blocks": [], "tenant goes": []}
    with tempfile.TemporaryDirectory(prefix="tgh") as name, contextlib.ExitStack() as exit_:
        folder = Path(name)
        folder.chmod(0o755)
        tenants = folder / "tenants.yaml"
        tenants.write_text(Desired().text())
        certificate = folder / "cluster.crt", folder / "cluster.key"
        subprocess.run([args.kong_bin, "hybrid", "gen_cert", *certificate], check=True, capture_output=True)
        cluster = free_port()
        stack = exit_.enter_context(
            Stack(
                tenants=tenants,
                state_dir=folder / "cp",
                kong_bin=args.kong_bin,
                postgres="",
                processes="1",
                settings={
                    "role": "control_plane",
                    "cluster_listen": f"127.0.0.1:{cluster}",
                    "cluster_cert": str(certificate[0]),
                    "cluster_cert_key": str(certificate[1]),
                },
            )
        )
        planes = []
        for number in range(PLANES):
            plane = DataPlane(
                stack,
                folder / f"dp{number}",
                binary=args.kong_bin,
                cluster=f"127.0.0.1:{cluster}",
                certificate=certificate,
            )
            exit_.callback(plane.stop)
            planes.append(plane)

        def each(key: str, text: str, wanted: int) -> list[float]:
            return [until(partial(answers, plane, key, text, wanted)) for plane in planes]

        out["first answer"] = each("acme", "Hi", 200)
        desired = Desired()
        for _ in range(args.rounds):
            desired.tenants.add("north")
            apply(stack, desired)
            out["tenant comes"].append(each("north", "Hi", 200))
            desired.blocks = True
            apply(stack, desired)
            out["rule blocks"].append(each("acme", WORD, 400))
            desired.tenants.remove("north")
            desired.blocks = False
            apply(stack, desired)
            out["tenant goes"].append(each("north", "Hi", 401))
        out["nodes"] = [
            f"{n['hostname']} {n['sync_status']}"
            for n in AdminApi(stack.admin_url).get("/clustering/data-planes")["data"]
        ]
        stack.stop_gateway()
        out["without the control plane"] = [
            asked(p.port, key_of("acme"), "mock-small", "Hi")[0] for p in planes
        ]
        stack.stop_database()
        out["and without the database"] = [
            asked(p.port, key_of("acme"), "mock-small", "Hi")[0] for p in planes
        ]
    print(json.dumps(out, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
