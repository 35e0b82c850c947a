"""``tenantgate redis check``: whether each Redis of tenants.yaml can be used, for readiness checks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tenantgate.config import deck_variables as placeholders
from tenantgate.config.load import load
from tenantgate.config.model import TenantsFile
from tenantgate.config.redis_model import RateLimitRedis
from tenantgate.errors import ConfigError
from tenantgate.store.config import ClusterNode, RedisConfig
from tenantgate.store.redis_rights import check_plugins, check_policies, check_rate_limits, forgetting
from tenantgate.store.url import redis_config

__all__ = ["redis", "redis_of", "uses"]

_OPTION: Final = "--password-env"


def redis(parser: argparse.ArgumentParser) -> None:
    """Add ``redis check``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="exit status 1 if a Redis can't be reached, or its user may not do what plugins and rate limits need",
    )
    check.add_argument(
        "-f", "--file", type=Path, default=Path("tenants.yaml"), metavar="FILE", help="default: %(default)s"
    )
    check.add_argument(
        _OPTION,
        metavar="NAME",
        help="environment variable with the passwords, where the file names a vault that only Kong can open",
    )
    check.set_defaults(func=_check)


def _check(args: argparse.Namespace) -> int:
    file = load(args.file)
    ready = True
    for where, kind, used in uses(file):
        config = redis_of(used, where, args.password_env, os.environ)
        problem = check_plugins(config)
        if kind != "plugins" and problem is None:
            problem = check_rate_limits(config)
        print(f"{where}, for the {kind}: {problem or 'ready'}")
        ready = ready and problem is None
        if kind != "plugins" and problem is None and _has_money(file):
            for doubt in forgetting(config):
                print(f"{where}, for the {kind}: WARNING: {doubt}")
    store = file.gateway.policy.store
    if store is not None:
        where = "gateway.policy.store"
        url = placeholders.value(store, os.environ, where)
        if url.startswith("redis"):
            problem = check_policies(redis_config(url))
            print(f"{where}, for the policies: {problem or 'ready'}")
            ready = ready and problem is None
    return 0 if ready else 1


def uses(file: TenantsFile) -> Iterator[tuple[str, str, RateLimitRedis]]:
    """Each Redis with its place in the file and what uses it."""
    yield "gateway.redis", "plugins", file.gateway.redis
    limiting = file.gateway.rate_limiting
    if limiting.policy == "redis" and (any(file.rate_limits()) or _has_money(file)):
        if limiting.redis is None:
            yield "gateway.redis", "rate limits", file.gateway.redis
        else:
            yield "gateway.rate_limiting.redis", "rate limits", limiting.redis


def _has_money(file: TenantsFile) -> bool:
    given = file.defaults
    return bool(given.token_limits or given.budgets) or any(t.token_limits or t.budgets for t in file.tenants)


def redis_of(
    used: RateLimitRedis, where: str, password_env: str | None, environ: Mapping[str, str]
) -> RedisConfig:
    """The settings of a connection to it.

    Raises:
        ConfigError: the password isn't there; names `where` and the variable.
    """
    password = used.password
    if password is not None and password_env:
        password = environ.get(password_env)
        if not password:
            raise ConfigError(f"{_OPTION}: the environment has no {password_env}")
    elif password is not None:
        password = placeholders.value(password, environ, f"{where}.password")
    nodes = tuple(ClusterNode(ip=node.ip, port=node.port) for node in getattr(used, "cluster_nodes", ()))
    return RedisConfig(
        host=used.host,
        port=used.port,
        cluster_nodes=nodes,
        database=used.database,
        username=used.username,
        password=password,
        ssl=used.ssl,
        ssl_verify=used.ssl_verify,
    )
