"""What an operator may set on `tenant-semantic-cache`; names as in Kong's ai-semantic-cache where it has them."""

from __future__ import annotations

from typing import Final

from tenantgate.fields import COUNT_MAX, MEGABYTES_MAX, SECONDS_MAX, config_class, field
from tenantgate.models.ports import BUILT_IN, LARGE
from tenantgate.store.config import RedisConfig

__all__ = ["VERIFIERS", "CacheConfig"]

VERIFIERS: Final = (BUILT_IN, LARGE)
"""The quickest first."""

PART: Final = r"^(user|header:[A-Za-z0-9][A-Za-z0-9_-]*|metadata:[^\s:][^\n]{0,127})$"
"""What a cache may be parted by."""


@config_class
class CacheConfig:
    """Settings of one route's cache."""

    encryption_key: str = field(
        "Key from which each tenant's own key is derived to seal what is stored: 32 random bytes or more, "
        "as text.",
        len_min=16, referenceable=True,
    )  # fmt: skip
    namespace: str | None = field(
        "Keeps this cache apart from the tenant's others; left out, the route's id does.",
        default=None,
        len_min=1,
    )
    guards: tuple[str, ...] = field(
        "Which guards of the same route an answer needs: it is served only to a request that tenant-guardrails has "
        "let pass, and stored only if tenant-response-guardrails has left it as it was. The renderer sets it where "
        "they block, mask or recover. One call to Kong more per hit.",
        default=(), one_of=("tenant-guardrails", "tenant-response-guardrails"),
    )  # fmt: skip
    strict_requests: bool = field(
        "Whether a request that is no chat in strict JSON is refused; else it passes unread.",
        default=True,
    )
    upstream_headers: tuple[str, ...] = field(
        "Headers of the request that reach the provider and may change its answer: answers are kept apart by their "
        "values. The renderer sets those of gateway.upstream_headers.",
        default=(), match=r"^[A-Za-z0-9_-]+$", lua_match="^[A-Za-z0-9_-]+$", len_max=50,
    )  # fmt: skip
    redis: RedisConfig = field("The Redis that holds the entries.", default=RedisConfig())
    cache_ttl: int = field(
        "How long an answer is served after it was stored.",
        default=300, between=(1, SECONDS_MAX), unit="s",
    )  # fmt: skip
    exact_caching: bool = field(
        "Whether a prompt that is the same to the letter is looked up first, without any model.", default=True
    )
    max_wrong_rate: float = field(
        "Share of the answers served by similarity that may be answers to another question: held with 95 % confidence "
        "on the calibration's traffic, and steered to on each tenant's own with probe_rate. 0 switches similarity off.",
        default=0.03, between=(0, 0.5),
    )  # fmt: skip
    probe_rate: float = field(
        "Share of the requests answerable by similarity that go to the provider all the same, as a miss, so that its "
        "answer can be compared with the stored one: none of a tenant's first 30, then up to 0.1 for a while, then "
        "this. Exact hits are probed, too, to learn how the provider rewords its answers. The score that is needed "
        "rises where more than max_wrong_rate is wrong with a probability of 0.9, and falls only on proof. 0: nothing "
        "is compared, and the calibration's score stays.",
        default=0.0, between=(0, 0.5),
    )  # fmt: skip
    embedder: str = field(
        "The embedding model: built-in, or the name or folder of a sentence-transformers model (which needs "
        "the extra of that name).",
        default=BUILT_IN, len_min=1,
    )  # fmt: skip
    verifier: str = field(
        "What decides whether a neighbour's answer will do: built-in, or large, which tells hard questions apart "
        "and takes many times as long for those (it must be built: `tenantgate models build --large`).",
        default=BUILT_IN, one_of=VERIFIERS,
    )  # fmt: skip
    candidates: int = field(
        "How many nearest neighbours are considered; of those that no rule excludes up to three are verified.",
        default=4, between=(1, 32),
    )  # fmt: skip
    ignore_system_prompts: bool = field(
        "Whether requests that differ in their system prompts alone may share answers.", default=False
    )
    partition_by: tuple[str, ...] = field(
        "What else keeps answers apart, each `user` (the request's own field), `header:NAME` or `metadata:KEY`: only "
        "requests with the same value share answers, and those without it share among themselves.",
        default=(), match=PART, len_max=16,
    )  # fmt: skip
    store_tool_calls: bool = field(
        "Whether answers that call tools are stored, too (not from streams, whose calls Kong doesn't log).",
        default=False,
    )
    max_entry_bytes: int = field(
        "Largest answer that is stored, with its prompt.",
        default=262_144,
        between=(1024, 16_777_216),
        unit="B",
    )
    max_entries: int = field(
        "How many answers one tenant may have stored, on all of its routes together; beyond that the ones that expire "
        "first make room.",
        default=10_000, between=(1, COUNT_MAX),
    )  # fmt: skip
    max_megabytes: int = field(
        "How much one tenant's stored answers may take together, vectors included.",
        default=64,
        between=(1, MEGABYTES_MAX),
        unit="MiB",
    )
    sweep_interval: int = field(
        "After how long what is left of expired answers, vectors and bookings, is removed in the background; 0: only "
        "when the tenant's next answer is stored.",
        default=60, between=(0, 86_400), unit="s",
    )  # fmt: skip
    on_error: str = field(
        "What happens to a request when the cache or its Redis fails: it passes uncached, or it is answered "
        "with 503.",
        default="pass", one_of=("pass", "reject"),
    )  # fmt: skip
    deadline_ms: int = field(
        "How long the cache may take in all; then on_error applies.",
        default=250,
        between=(5, 1500),
        unit="ms",
    )
