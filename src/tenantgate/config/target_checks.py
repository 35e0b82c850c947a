"""What must hold between a model's targets and the rest of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tenantgate.fields import fields_of

if TYPE_CHECKING:
    from tenantgate.config.model import Endpoint, Model

__all__ = ["problems"]

_NO_PLACE: Final = frozenset(
    "credential credentials weight region azure_deployment_type context_window max_tokens temperature top_p top_k "
    "input_cost output_cost max_output_tokens".split()
)
"""Fields in which two targets may differ and be the same place nevertheless."""
_WITH_SEVERAL: Final = ("balance", "hash_on_header")
_CONTEXT: Final = "context_length"


def problems(m: Model) -> Iterator[tuple[str, str]]:
    """Each problem of a model whose fields are right each by itself: the field's path, and the problem."""
    yield from _with_targets(m) if m.targets else _without_targets(m)
    count = sum(max(1, len(endpoint.keys)) for endpoint in m.endpoints)
    if m.failover is not None and (retries := m.failover.retries) is not None and retries >= count:
        others = count - 1
        what = f"{retries} retries, but {'no other target' if not others else f'only {others} more'}"
        yield "failover.retries", f"{what}; each goes to another target or credential"
    yield from _criteria(m, count)
    if m.hash_on_header is not None and m.balance != "consistent-hashing":
        yield "hash_on_header", f"isn't used with balance {m.balance}; it belongs to consistent-hashing"


def _without_targets(m: Model) -> Iterator[tuple[str, str]]:
    if m.name is not None and m.provider is None and m.model is None:
        yield "targets", "required with `name`: the places that answer for it"
        return
    for name in ("provider", "model"):
        if getattr(m, name) is None:
            yield name, "required, or `name` and `targets`"
    if m.name is not None:
        yield "name", "belongs to a model with `targets`; other names of this one are its `aliases`"
    known = fields_of(type(m))
    for name in _WITH_SEVERAL:
        if getattr(m, name) != known[name].default:
            yield name, "needs `targets`; this model has one place only"


def _with_targets(m: Model) -> Iterator[tuple[str, str]]:
    if m.name is None:
        yield "name", "required with `targets`: the name by which clients ask for the model"
    of_target = fields_of(type(m.targets[0]))
    for name, f in fields_of(type(m)).items():
        if name in of_target and getattr(m, name) != f.default:
            yield name, "belongs to each of the `targets`, not beside them"
    for i, target in enumerate(m.targets):
        first = next(k for k, other in enumerate(m.targets) if other is target or _same(other, target))
        if first != i:
            yield (
                f"targets[{i}]",
                f"is targets[{first}] already: same provider, model, address and credential",
            )
    if m.balance == "lowest-cost":
        for i, target in enumerate(m.targets):
            if target.input_cost is None or target.output_cost is None:
                yield f"targets[{i}]", "balance lowest-cost needs input_cost and output_cost of each target"


def _same(a: Endpoint, b: Endpoint) -> bool:
    place = all(getattr(a, name) == getattr(b, name) for name in fields_of(type(a)) if name not in _NO_PLACE)
    return place and (bool({*a.keys} & {*b.keys}) or not (a.keys or b.keys))


def _criteria(m: Model, count: int) -> Iterator[tuple[str, str]]:
    if m.failover is None or m.failover.failover_criteria is None:
        return
    criteria = m.failover.failover_criteria
    for i, name in enumerate(criteria):
        if (first := criteria.index(name)) != i:
            yield f"failover.failover_criteria[{i}]", f"{name} is failover_criteria[{first}] already"
    if count == 1 and criteria:
        yield "failover.failover_criteria", "there is no other target or credential to go on to"
    elif _CONTEXT in criteria:
        for i, endpoint in enumerate(m.endpoints):
            if endpoint.context_window is None:
                at = f"targets[{i}].context_window" if m.targets else "context_window"
                yield at, f"required, since failover_criteria has {_CONTEXT}: the next target must take more"
