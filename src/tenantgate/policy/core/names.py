"""Names of models: what a client writes in `model`, looked up in its tenant's policy."""

from __future__ import annotations

from collections.abc import Iterator

from tenantgate.policy.core.records import ModelPolicy, TenantPolicy

__all__ = ["find_model", "listed_names"]


def find_model(policy: TenantPolicy, name: str) -> ModelPolicy | None:
    """The model that `name` means: an alias, ``provider/model``, or a provider's name of the model.

    In this order; names are compared exactly. The same model at two providers is the first one in the policy.
    """
    for match in (_by_alias, _by_qualified_name, _by_model):
        for model in policy.models:
            if match(model, name):
                return model
    return None


def _by_alias(model: ModelPolicy, name: str) -> bool:
    return name in model.aliases


def _by_qualified_name(model: ModelPolicy, name: str) -> bool:
    return name == model.qualified


def _by_model(model: ModelPolicy, name: str) -> bool:
    return name == model.model


def listed_names(policy: TenantPolicy) -> Iterator[tuple[str, ModelPolicy]]:
    """Each name that a client may use once, with the model it means: aliases first, then models.

    A model's plain name, and ``provider/model`` where the plain name means another provider's.
    """
    for model in policy.models:
        for alias in model.aliases:
            yield alias, model
    for model in policy.models:
        plain = find_model(policy, model.model) is model
        yield (model.model if plain else model.qualified), model
