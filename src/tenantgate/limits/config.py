"""Settings of the rate limits of one tenant's requests for one model."""

from __future__ import annotations

from collections.abc import Iterator

from tenantgate.fields import config_class, field
from tenantgate.rate_limit import RateLimit
from tenantgate.store.config import RedisConfig

__all__ = ["LimitsConfig"]


@config_class
class LimitsConfig:
    """Which limits a request counts for, and where they are counted."""

    tenant: RateLimit | None = field("Rate limit of the tenant, over all of its models.", default=None)
    model: RateLimit | None = field(
        "Rate limit of this model. Its requests don't count for the tenant's limit.", default=None
    )
    key: RateLimit | None = field(
        "Rate limit of each key of the tenant, over all models. Its requests count for the other limits, too.",
        default=None,
    )
    model_name: str | None = field(
        "Name of the model, under which its requests are counted.", default=None, len_min=1
    )
    policy: str = field(
        "Place of the counters: redis, shared by all Kong nodes; or local, in each process of the engine, so that "
        "with n processes a tenant may send up to n times its limit.",
        default="redis",
        one_of=("redis", "local"),
    )
    redis: RedisConfig | None = field("Redis that holds the counters; for policy redis.", default=None)
    on_error: str = field(
        "What happens to a request that can't be counted, as when Redis is gone: pass, uncounted; or reject, with "
        "status 503.",
        default="pass",
        one_of=("pass", "reject"),
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Problems between the fields."""
        if self.tenant is None and self.model is None and self.key is None:
            yield "", "needs one of tenant, model, key"
        if self.model is not None and self.model_name is None:
            yield "model_name", "required with model"
        if self.policy == "redis" and self.redis is None:
            yield "redis", "required with policy redis"
