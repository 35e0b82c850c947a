"""What an operator may set on `tenant-semantic-cache`; names as in Kong's ai-semantic-cache where it has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.fields import COUNT_MAX, MEGABYTES_MAX, SECONDS_MAX, config_class, field
from tenantgate.models.ports import BUILT_IN, LARGE
from tenantgate.store.config import RedisConfig

__all__ = ["CACHE_ONLY", "NORMAL", "VERIFIERS", "CacheConfig"]

NORMAL: Final = "normal"
CACHE_ONLY: Final = "cache_only"

VERIFIERS: Final = (BUILT_IN, LARGE)
"""The quickest first."""

PART: Final = r"^(user|header:[A-Za-z0-9][A-Za-z0-9_-]*|metadata:[^\s:][^\n]{0,127})$"
"""What a cache may be parted by."""


@config_class
class CacheConfig:
    """Settings of one route's cache."""

    encryption_key: str = field(
        "Secret from which each tenant's own encryption key for stored answers is derived: 32 random bytes or "
        "more, as text.",
        len_min=16,
        referenceable=True,
    )
    namespace: str | None = field(
        "Name of this cache. Routes of one tenant with the same name share answers. Default: the route's id, so "
        "that nothing is shared.",
        default=None,
        len_min=1,
    )
    guards: tuple[str, ...] = field(
        "Guardrail plugins of the same route that must approve: tenant-guardrails the request before a cached "
        "answer is served, tenant-response-guardrails the reply before it is stored. The renderer sets this where "
        "they block, mask or restore text. Costs one more call to Kong for each hit.",
        default=(),
        one_of=("tenant-guardrails", "tenant-response-guardrails"),
    )
    strict_requests: bool = field(
        "Refuse requests that aren't a chat request in strict JSON. Otherwise they pass unread.", default=True
    )
    upstream_headers: tuple[str, ...] = field(
        "Request headers that reach the provider and may change its answer. Answers are kept apart by their "
        "values. The renderer sets those of gateway.upstream_headers.",
        default=(),
        match=r"^[A-Za-z0-9_-]+$",
        lua_match="^[A-Za-z0-9_-]+$",
        len_max=50,
    )
    redis: RedisConfig = field("Redis that stores the answers.", default=RedisConfig())
    cache_ttl: int = field(
        "Time to live of a stored answer.", default=300, between=(1, SECONDS_MAX), unit="s"
    )
    exact_caching: bool = field("Look up identical requests first, without any model.", default=True)
    max_wrong_rate: float = field(
        "Largest accepted share of answers served by similarity that belong to another question. Holds with 95 % "
        "confidence on the traffic of the calibration; with probe_rate the threshold also adapts to each tenant's "
        "own traffic. 0 switches similarity off.",
        default=0.03,
        between=(0, 0.5),
    )
    probe_rate: float = field(
        "Share of the requests answerable by similarity that are sent to the provider nevertheless, as a miss, to "
        "compare its answer with the stored one: none of a tenant's first 30, then up to 0.1 for a while, then "
        "this share. Identical requests are sampled, too, to learn how the provider rewords its answers. The "
        "threshold rises where more than max_wrong_rate is wrong with a probability of 0.9, and falls only on "
        "proof. 0: no comparison, and the calibrated threshold stays.",
        default=0.0,
        between=(0, 0.5),
    )
    embedder: str = field(
        "Embedding model: built-in, or the name or directory of a sentence-transformers model (needs the extra of "
        "that name).",
        default=BUILT_IN,
        len_min=1,
    )
    verifier: str = field(
        "Model that decides whether the answer to a similar question fits: built-in; or large, which is better at "
        "difficult pairs, takes many times as long for those, and must be built with `tenantgate models build "
        "--large`.",
        default=BUILT_IN,
        one_of=VERIFIERS,
    )
    candidates: int = field(
        "Number of nearest stored questions to consider. At most three of those that no rule excludes are "
        "verified.",
        default=4,
        between=(1, 32),
    )
    ignore_system_prompts: bool = field(
        "Let requests that differ only in their system prompts share answers.", default=False
    )
    partition_by: tuple[str, ...] = field(
        "Further values that keep answers apart: `user` (the request's own field), `header:NAME` or "
        "`metadata:KEY`. Only requests with the same value share answers; requests without a value share among "
        "themselves.",
        default=(),
        match=PART,
        len_max=16,
    )
    store_tool_calls: bool = field(
        "Also store answers that call tools. Not from streams, whose tool calls Kong doesn't log.",
        default=False,
    )
    max_entry_bytes: int = field(
        "Largest answer that is stored, with its prompt.",
        default=262_144,
        between=(1024, 16_777_216),
        unit="B",
    )
    max_entries: int = field(
        "Most stored answers of one tenant, on all of its routes together. Beyond this the answers that expire "
        "first are removed.",
        default=10_000,
        between=(1, COUNT_MAX),
    )
    max_megabytes: int = field(
        "Most space for one tenant's stored answers.", default=64, between=(1, MEGABYTES_MAX), unit="MiB"
    )
    sweep_interval: int = field(
        "Interval between clean-ups of expired index entries in the background. 0: only when the "
        "tenant's next answer is stored.",
        default=60,
        between=(0, 86_400),
        unit="s",
    )
    coalesce_max_wait_ms: int = field(
        "Longest wait for the answer to an equal request of the same tenant that is under way: such requests ask the "
        "provider once. Who waited in vain asks by itself. At most what is left of the plugin's time, 150 ms less. "
        "0: no request waits.",
        default=0,
        between=(0, 1700),
        unit="ms",
    )
    stale_if_error_s: int = field(
        "Time for which an answer is kept after it has expired, to be served to the same request while no provider "
        "can be asked (RFC 5861). By the engine only. 0: none is.",
        default=0,
        between=(0, SECONDS_MAX),
        unit="s",
    )
    mode: str = field(
        "normal; or cache_only, for an outage: no request reaches the provider, and what the cache can't answer gets "
        "504 with Retry-After.",
        default=NORMAL,
        one_of=(NORMAL, CACHE_ONLY),
    )
    on_error: str = field(
        "Treatment of a request when the cache or its Redis fails: pass sends it to the provider uncached, reject "
        "answers 503.",
        default="pass",
        one_of=("pass", "reject"),
    )
    deadline_ms: int = field(
        "Most time for the cache in one request. After this on_error applies.",
        default=250,
        between=(5, 1500),
        unit="ms",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """What goes by the exact level needs that."""
        if not self.exact_caching:
            for name in ("coalesce_max_wait_ms", "stale_if_error_s"):
                if getattr(self, name):
                    yield name, "needs exact_caching"
