"""``tenantgate redis check``: whether each Redis of tenants.yaml can be used, for readiness checks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tenantgate.config import placeholders
from tenantgate.config.load import load
from tenantgate.errors import ConfigError

if TYPE_CHECKING:
    from tenantgate.config.model import RateLimitRedis, TenantsFile
    from tenantgate.store.config import RedisConfig

__all__ = ["add_commands"]

_PASSWORD: Final = "--password-env"  # noqa: S105 - an option's name


def add_commands(subparsers: Any) -> None:
    """Add ``redis check``."""
    area = subparsers.add_parser("redis", help="check the Redis that tenants.yaml names")
    actions = area.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="exit status 1 if a Redis can't be reached, or its user may not do what plugins and rate limits need",
    )
    check.add_argument(
        "-f", "--file", type=Path, default=Path("tenants.yaml"), metavar="FILE", help="default: %(default)s"
    )
    check.add_argument(
        _PASSWORD, metavar="NAME",
        help="environment variable with the passwords, where the file names a vault that only Kong can open",
    )  # fmt: skip
    check.set_defaults(func=_check)


def _check(args: argparse.Namespace) -> int:
    # Imported here, as in all commands: `--help` needs no redis.
    from tenantgate.store.redis_rights import check_plugins, check_rate_limits  # noqa: PLC0415

    file = load(args.file)
    ready = True
    for where, kind, redis in _uses(file):
        config = _config(redis, where, args.password_env)
        problem = check_plugins(config) if kind == "plugins" else check_rate_limits(config)
        print(f"{where}, for the {kind}: {problem or 'ready'}")
        ready = ready and problem is None
    return 0 if ready else 1


def _uses(file: TenantsFile) -> Iterator[tuple[str, str, RateLimitRedis]]:
    """Each Redis with its place in the file and what uses it."""
    yield "gateway.redis", "plugins", file.gateway.redis
    limits = [file.defaults.rate_limit, *(tenant.rate_limit for tenant in file.tenants)]
    limits += [model.rate_limit for tenant in file.tenants for model in tenant.models]
    limiting = file.gateway.rate_limiting
    if limiting.policy == "redis" and any(limits):
        if limiting.redis is None:
            yield "gateway.redis", "rate limits", file.gateway.redis
        else:
            yield "gateway.rate_limiting.redis", "rate limits", limiting.redis


def _config(redis: RateLimitRedis, where: str, password_env: str | None) -> RedisConfig:
    from tenantgate.store.config import ClusterNode, RedisConfig  # noqa: PLC0415

    password = redis.password
    if password is not None and password_env:
        password = os.environ.get(password_env)
        if not password:
            raise ConfigError(f"{_PASSWORD}: the environment has no {password_env}")
    elif password is not None:
        password = placeholders.value(password, os.environ, f"{where}.password")
    nodes = tuple(ClusterNode(ip=node.ip, port=node.port) for node in getattr(redis, "cluster_nodes", ()))
    return RedisConfig(
        host=redis.host, port=redis.port, cluster_nodes=nodes, database=redis.database, username=redis.username,
        password=password, ssl=redis.ssl, ssl_verify=redis.ssl_verify,
    )  # fmt: skip
