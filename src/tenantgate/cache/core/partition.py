"""Who and where: the partition in which answers may be shared, and the only way to name a key.

Everything that may change an answer is in the partition's fingerprint, exactly; only the last user message is
left for comparing by meaning. Parts are written with their lengths before them, so no text can pass for two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantgate.cache.core.ports import Sealer
from tenantgate.llm.chat import ChatRequest, canonical
from tenantgate.tenant import TenantId

__all__ = ["Keys", "Partition", "encode", "partition_of", "parts_of"]

_PREFIX: Final = "tg:cache:2"  # the version of the layout, so that another one never meets these keys

# Parameters that don't change what an answer says: how it is delivered, and what the provider charges it to.
# Everything else counts, also what doesn't exist yet.
_NEUTRAL: Final = frozenset(
    {
        "messages",
        "stream",
        "stream_options",
        "user",
        "metadata",
        "store",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
    }
)
_SYSTEM: Final = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class Partition:
    """One tenant's answers to one kind of request.

    `fingerprint` (32 hexadecimal digits) is a keyed digest over namespace, parameters, system prompt and all
    turns but the last; `message` is the last message as the client wrote it, in canonical JSON.
    """

    tenant: TenantId
    fingerprint: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Keys:
    """The names in Redis of one tenant. In braces the hash tag: a Redis Cluster keeps a tenant on one node."""

    tenant: TenantId

    @property
    def base(self) -> str:
        """What all of the tenant's keys begin with."""
        return f"{_PREFIX}:{{{self.tenant.slug}}}:"

    def entry(self, name: str) -> str:
        """One stored answer: a string with a time to live."""
        return f"{self.base}e:{name}"

    def lease(self, name: str) -> str:
        """The lease of an entry that the provider is being asked for (`coalescing`): a string with a time to live."""
        return f"{self.base}l:{name}"

    def let_go(self, token: str) -> str:
        """Where those wait who wait for a lease: a stream with a time to live, once it was let go of."""
        return f"{self.base}w:{token}"

    def bucket(self, name: str) -> str:
        """The names of a partition's entries with the same bucket (`bucket.bucket`): a sorted set."""
        return f"{self.base}n:{name}"

    def bound(self, fingerprint: str) -> str:
        """What is known of the tenant's traffic for the bound and the models with this fingerprint: a hash."""
        return f"{self.base}b:{fingerprint}"

    @property
    def index(self) -> str:
        """All entries by the time at which they expire: a sorted set."""
        return f"{self.base}index"

    @property
    def sizes(self) -> str:
        """For each entry ``bytes|bucket``, and their sum under ``total``: a hash."""
        return f"{self.base}sizes"

    @property
    def swept(self) -> str:
        """A mark that expires: what has expired was removed lately."""
        return f"{self.base}swept"

    @property
    def pattern(self) -> str:
        """A glob for all of the tenant's keys; a slug has no glob characters."""
        return f"{self.base}*"


def partition_of(
    tenant: TenantId,
    namespace: str,
    request: ChatRequest,
    sealer: Sealer,
    *,
    ignore_system_prompts: bool = False,
    headers: Mapping[str, Sequence[str]] | None = None,
    apart: bytes = b"",
) -> Partition:
    """The partition that `request` belongs to.

    `headers` are those of its headers that reach the provider; `apart` is what `parts_of` gives.
    """
    *earlier, last = request.messages
    if ignore_system_prompts:
        earlier = [m for m in earlier if not (isinstance(role := m.get("role"), str) and role in _SYSTEM)]
    parameters = {k: v for k, v in request.body.items() if k not in _NEUTRAL}
    sections = [namespace.encode("utf-8", "surrogatepass"), canonical(parameters), canonical(earlier)]
    if headers:
        sections.append(canonical({name.lower(): list(values) for name, values in headers.items()}))
    about = encode([encode(sections), apart])
    return Partition(tenant, sealer.name(b"partition" + about), canonical(last))


def parts_of(names: Sequence[str], request: ChatRequest, headers: Callable[[str], tuple[str, ...]]) -> bytes:
    """What a request has under the names of `partition_by`, injectively; nothing without names.

    Args:
        names: each ``user``, ``header:NAME`` or ``metadata:KEY``.
        request: where `user` and metadata are looked up.
        headers: all values of a header, which may hold surrogate escapes.
    """
    found = []
    for name in names:
        kind, _, rest = name.partition(":")
        if kind == "header":
            value: object = headers(rest)
        else:
            held = request.body if kind == "user" else request.body.get("metadata")
            key = "user" if kind == "user" else rest
            value = [held[key]] if isinstance(held, Mapping) and key in held else []
        found += [name.encode(), canonical(value)]
    return encode(found)


def entry_name(partition: Partition, sealer: Sealer) -> str:
    """The name of the entry for exactly this request."""
    return sealer.name(b"entry" + encode([partition.fingerprint.encode(), partition.message]))


def encode(parts: Iterable[bytes]) -> bytes:
    """The parts in one text, injectively: each with its length before it."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
