"""What is asked: a request as the cache sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tenantgate.cache.core.cache_control import BypassReason, CacheControl, may_serve, may_serve_stale
from tenantgate.cache.core.partition import Keys, Partition, entry_name
from tenantgate.llm.chat import ChatRequest, Refusal
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.cache.core.entry import Entry
    from tenantgate.cache.core.ports import Sealer

__all__ = ["Cacheable", "Question", "cacheable", "question_of"]


@dataclass(frozen=True, slots=True)
class Cacheable:
    """A request that may be looked up and stored."""

    tenant: TenantId
    request: ChatRequest
    control: CacheControl


def cacheable(
    request: ChatRequest | Refusal, tenant: TenantId | None, cache_control: tuple[str, ...]
) -> Cacheable | BypassReason:
    """The request, or why it goes past the cache; `cache_control` are the header's lines."""
    if isinstance(request, Refusal):
        return BypassReason.NOT_CHAT
    if tenant is None:
        return BypassReason.NO_TENANT
    if request.body.get("n") not in (None, 1):
        return BypassReason.SEVERAL_CHOICES
    control = CacheControl.parse(cache_control)
    return BypassReason.NO_STORE if control.no_store else Cacheable(tenant, request, control)


@dataclass(frozen=True)
class Question:
    """One request of one tenant.

    Answers may be shared in `partition` only, of whose tenant the `keys` are. `name` is that of the entry for exactly
    this request. `control` is what the client accepts.
    """

    partition: Partition
    keys: Keys
    name: str
    request: ChatRequest
    control: CacheControl

    @cached_property
    def text(self) -> str | None:
        """The last message, if it is the user's and all text."""
        return self.request.question  # read where it is needed: an exact hit doesn't, and texts may be long

    def accepts(self, entry: Entry, now: float) -> bool:
        """Whether the entry is as fresh as the client wants at `now`, in Unix seconds."""
        return may_serve(self.control, age_s=entry.age_s(now), ttl_s=entry.remaining_s(now))

    def accepts_stale(self, entry: Entry, now: float, stale_s: int) -> bool:
        """Whether the client takes the entry, which expired at most `stale_s` seconds ago, for want of another."""
        return -entry.remaining_s(now) <= stale_s and may_serve_stale(self.control, age_s=entry.age_s(now))


def question_of(asked: Cacheable, partition: Partition, sealer: Sealer) -> Question:
    """What `asked` asks in `partition`."""
    name = entry_name(partition, sealer)
    return Question(partition, Keys(partition.tenant), name, asked.request, asked.control)
