"""The Redis nodes that hold a gateway node's streams: keys by tenant, scripts, errors, replication.

A node of a cluster that fails holds up its own tenants only (`Failures`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis

from tenantgate.audit.core.chain import Numbers, merged
from tenantgate.audit.core.ports import ConflictError
from tenantgate.errors import EdgeError
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.store.config import RedisConfig

__all__ = ["CONFLICT", "Failures", "StreamNodes", "TenantKeys", "batches", "gap_numbers", "replicated"]

T = TypeVar("T")
_REPLICA_MS: Final = 500  # how long a replica may take

CONFLICT: Final = (
    "another gateway writes to this Redis under the same name: give each a gateway.audit.node of its own"
)


class UnreplicatedError(redis.RedisError):
    """A replica is there, but doesn't have it yet."""


class TenantKeys:
    """Names of one tenant's keys: the stream of records, the hash of contents, the hash with the chain's head."""

    def __init__(self, tenant: TenantId, node: str) -> None:
        base = f"tg:audit:1:{{{tenant.slug}}}:{node}"
        self.records, self.contents, self.head = f"{base}:records", f"{base}:contents", f"{base}:head"


class Failures:
    """Errors while something is done for several tenants: a node that is gone is asked once."""

    def __init__(self) -> None:
        self.first: EdgeError | None = None
        self.nodes: dict[str, EdgeError] = {}

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Go on with the next tenant, unless another gateway writes here."""
        try:
            yield
        except ConflictError:
            raise
        except EdgeError as error:
            self.first = self.first or error

    def raise_first(self) -> None:
        """Raise the first, if any."""
        if self.first is not None:
            raise self.first


class StreamNodes:
    """Redis, one node or a cluster, and the tenants that have a stream of this gateway node's there.

    Attributes:
        root: the hash of the gateway node itself.
    """

    def __init__(self, config: RedisConfig, node: str) -> None:
        self._nodes = connect(config, timeout_ms=max(1000, config.timeout_ms))
        # A node's name may hold anything; a key takes its digest then, so that no two names meet.
        self._node = (
            node if node.isascii() and node.replace("-", "").replace(".", "").isalnum() else _digest(node)
        )
        self.root = f"tg:audit:1:{self._node}"
        self._tenants: dict[TenantId, TenantKeys] = {}
        self._maker = redis.Redis()  # never connects: a script only needs an encoding

    def script(self, name: str) -> Callable[[Sequence[str], Sequence[Any]], Callable[[Any], Any]]:
        """The script ``lua/NAME.lua``: from its keys and arguments to a call for `ask`."""
        text = resources.files("tenantgate.audit").joinpath("redis_scripts", f"{name}.lua").read_text("utf-8")
        made = self._maker.register_script(text)
        return lambda keys, args: lambda client: made(keys=keys, args=args, client=client)

    @property
    def tenants(self) -> list[TenantId]:
        """All tenants that are known to have a stream."""
        return list(self._tenants)

    def keys(self, tenant: TenantId) -> TenantKeys:
        """The tenant's keys; the tenant is known from now on."""
        if tenant not in self._tenants:
            self._tenants[tenant] = TenantKeys(tenant, self._node)
        return self._tenants[tenant]

    def ask(self, key: str, call: Callable[[Any], T], failures: Failures | None = None) -> T:
        """The result of `call` with a client for `key`.

        Raises:
            EdgeError: Redis failed.
            ConflictError: another gateway writes here.
        """
        name = ""
        try:
            node = self._nodes.node(key)
            name = node.name
            if failures is not None and name in failures.nodes:
                raise failures.nodes[name]
            return node.ask(call)
        except (redis.RedisError, OSError) as error:
            if isinstance(error, redis.ResponseError) and "CONFLICT" in str(error):
                raise ConflictError(CONFLICT) from None
            failed = EdgeError(f"spool: redis: {type(error).__name__}")
            if failures is not None and not isinstance(error, redis.ResponseError):
                failures.nodes[name] = failed
            raise failed from None

    def piped(
        self, add: Callable[[Any, TenantKeys], object], failures: Failures
    ) -> Iterator[tuple[TenantId, list[Any]]]:
        """For each tenant the answers to what `add` adds to a pipeline; one round trip for each node."""
        groups: dict[str, list[TenantId]] = defaultdict(list)
        for tenant, keys in list(self._tenants.items()):
            try:
                groups[self._nodes.node(keys.head).name].append(tenant)
            except redis.RedisError as error:
                failures.first = failures.first or EdgeError(f"spool: redis: {type(error).__name__}")

        def run(mine: Sequence[TenantId], client: Any) -> list[Any]:
            pipe = client.pipeline(transaction=False)
            for tenant in mine:
                add(pipe, self.keys(tenant))
            found: list[Any] = pipe.execute()
            return found

        for mine in groups.values():
            found: list[Any] = []
            with failures.noted():
                head = self.keys(mine[0]).head
                found = self.ask(head, partial(run, mine), failures)
            each = len(found) // len(mine)
            for i, tenant in enumerate(mine if found else ()):
                yield tenant, found[i * each : (i + 1) * each]

    def gaps(self, keys: TenantKeys, name: str, failures: Failures) -> Numbers:
        """The numbers in a field of a tenant's head: which entries are gone, and no record reports yet."""
        return gap_numbers(self.ask(keys.head, lambda client: client.hget(keys.head, name), failures))

    def set_gaps(self, keys: TenantKeys, name: str, numbers: Numbers, failures: Failures) -> None:
        """Replace these numbers; without any the field goes."""

        def keep(client: Any) -> object:
            if numbers:
                return client.hset(keys.head, name, json.dumps(numbers))
            return client.hdel(keys.head, name)

        self.ask(keys.head, keep, failures)


def replicated(write: Callable[[Any], T]) -> Callable[[Any], T]:
    """Write, and wait until a replica has it, too, if there are any that could take over."""

    def call(client: Any) -> T:
        with client.client() as one:  # WAIT asks for what came by its own connection
            found = write(one)
            if not _has_replica(one):
                raise UnreplicatedError
            return found

    return call


def _has_replica(client: Any) -> bool:
    """Whether a replica has all that this client wrote, or there is none that could take over."""
    try:
        role = client.execute_command("ROLE")  # b"master", offset, replicas that are online
        return len(role) < 3 or not role[2] or client.wait(1, _REPLICA_MS) > 0
    except redis.ResponseError:  # not allowed to ask: records must not wait for a right that nobody gave
        return True


def gap_numbers(found: bytes | None) -> Numbers:
    """The numbers that such a field holds."""
    return merged(json.loads(found)) if found else ()


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
