"""Whether a Redis user may do what the plugins and Kong's rate limits do.

A missing right shows nowhere else: the plugins pass without Redis, and Kong's rate-limiting with ``fault_tolerant``
lets every request through uncounted. Each check runs the commands themselves, on keys of its own that expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import redis

from tenantgate.store.redis_nodes import connect

if TYPE_CHECKING:
    from tenantgate.store.config import RedisConfig

__all__ = ["ACL_RULES", "check_plugins", "check_policies", "check_rate_limits", "doubts", "forgetting"]

ACL_RULES: Final = (
    "resetkeys ~tg:* ~ratelimit:* resetchannels -@all +@read +@write +@connection +@scripting +@transaction "
    "-@dangerous +info +time +wait +cluster|slots"
)
"""Rights of the user of ``gateway.redis``, in the syntax of ``ACL SETUSER`` (redis.io/docs, Security, ACL)."""

_TIMEOUT_MS: Final = 2000
_TTL_S: Final = 10
_PLUGIN_KEY: Final = "tg:check:1:{check}:"
_RATE_LIMIT_KEY: Final = "ratelimit:tenantgate-check"
_POLICY_KEY: Final = "tg:policy:1:{check}:"

# The data types of cache, guard and audit spool, in one script as the cache's own (cache/redis_scripts).
_PLUGIN_SCRIPT: Final = f"""
redis.call('SET', KEYS[1], '1', 'EX', {_TTL_S})
redis.call('ZADD', KEYS[2], 1, 'a') redis.call('EXPIRE', KEYS[2], {_TTL_S})
redis.call('HSET', KEYS[3], 'a', '1') redis.call('EXPIRE', KEYS[3], {_TTL_S})
redis.call('UNLINK', KEYS[1])
return redis.call('TIME')
"""
# As policy/redis_scripts.
_POLICY_SCRIPT: Final = f"""
redis.call('HSET', KEYS[1], 'a', '1') redis.call('EXPIRE', KEYS[1], {_TTL_S})
return redis.call('HGETALL', KEYS[1])
"""
# Kong 3.9, kong/plugins/rate-limiting/policies/init.lua: EVAL with INCR and EXPIRE.
_RATE_LIMIT_SCRIPT: Final = f"""
if redis.call('INCR', KEYS[1]) == 1 then redis.call('EXPIRE', KEYS[1], {_TTL_S}) end
return 1
"""


def check_plugins(config: RedisConfig) -> str | None:
    """What keeps the plugins from their Redis, or None."""

    def run(client: Any) -> None:
        keys = [_PLUGIN_KEY + name for name in ("text", "order", "fields", "stream")]
        client.register_script(_PLUGIN_SCRIPT)(keys=keys[:3])
        client.get(keys[0])
        with client.pipeline(transaction=True) as pipeline:
            pipeline.xadd(keys[3], {"a": "1"}, maxlen=1)
            pipeline.expire(keys[3], _TTL_S)
            pipeline.execute()
        client.xread({keys[3]: "0"}, count=1)
        client.info("memory")

    return _tried(config, _PLUGIN_KEY, run)


def check_policies(config: RedisConfig) -> str | None:
    """What keeps the policy directory from its Redis, or None."""

    def run(client: Any) -> None:
        client.register_script(_POLICY_SCRIPT)(keys=[_POLICY_KEY])
        client.hscan(_POLICY_KEY, 0)
        client.info("memory")
        client.info("persistence")

    return _tried(config, _POLICY_KEY, run)


def doubts(memory: Mapping[str, Any], persistence: Mapping[str, Any]) -> list[str]:
    """What a Redis may lose of what it is given for good, by the answers to INFO of that name; and what helps."""
    out = []
    # volatile-… evicts what has an expiry, which policies don't have.
    if memory.get("maxmemory") and str(eviction := memory.get("maxmemory_policy")).startswith("allkeys"):
        out.append(
            f"Redis evicts policies when it is full (maxmemory-policy {eviction}): set noeviction, or give the "
            "policies a Redis of their own"
        )
    if not persistence.get("aof_enabled"):
        out.append(
            "Redis writes no append-only file: after a crash the newest version may be gone (set appendonly yes)"
        )
    return out


def forgetting(config: RedisConfig) -> list[str]:
    """How a Redis may forget what limits and budgets have counted; empty also where it doesn't say."""
    found: dict[str, Any] = {}

    def run(client: Any) -> None:
        found.update(client.info("memory"), **client.info("persistence"))

    if _tried(config, _PLUGIN_KEY, run) is not None:
        return []
    out, policy = [], str(found.get("maxmemory_policy"))
    # Counters have an expiry, so that volatile-… takes them, too.
    if found.get("maxmemory") and policy != "noeviction":
        out.append(
            f"evicts keys when it is full (maxmemory-policy {policy}), and with them what limits and budgets have "
            "counted: set noeviction, or give gateway.rate_limiting a Redis of its own"
        )
    if not found.get("aof_enabled"):
        out.append("writes no append-only file: after a restart budgets begin anew (set appendonly yes)")
    return out


def check_rate_limits(config: RedisConfig) -> str | None:
    """What keeps Kong's rate-limiting from its Redis, or None."""
    return _tried(config, _RATE_LIMIT_KEY, lambda client: client.eval(_RATE_LIMIT_SCRIPT, 1, _RATE_LIMIT_KEY))


_REASONS: Final[Mapping[type[Exception], str]] = {
    redis.exceptions.AuthenticationError: "refuses the user name or the password",
    redis.exceptions.NoPermissionError: "the user lacks a right: {}",
    redis.exceptions.TimeoutError: f"gives no answer within {_TIMEOUT_MS} ms",
    redis.exceptions.ConnectionError: "can't be reached",
    redis.exceptions.ResponseError: "refuses a command: {}",
}


def _tried(config: RedisConfig, key: str, run: Any) -> str | None:
    nodes = connect(config, timeout_ms=_TIMEOUT_MS)
    try:
        nodes.ask(key, run)
    except (redis.RedisError, OSError) as error:
        for kind, reason in _REASONS.items():
            if isinstance(error, kind):
                return reason.format(str(error)[:200])
        return type(error).__name__
    finally:
        nodes.close()
    return None
