"""Token limits and budgets of a configuration: what holds for a tenant, what must hold, what its models cost. Pure."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tenantgate.config.model import Defaults, Endpoint, Model, Tenant, TenantsFile
from tenantgate.config.providers import PROVIDERS
from tenantgate.fields import Many, Record, fields_of
from tenantgate.limit_config import Budget, BudgetStep, TokenLimit
from tenantgate.prices.pricing import Asked, PriceBook, Unpriced

__all__ = ["MoneyProblem", "TenantRules", "asked", "names_of", "plain", "problems", "rules_of"]

R = TypeVar("R", TokenLimit, Budget)


@dataclass(frozen=True, slots=True)
class MoneyProblem:
    """A problem, and where it stands."""

    tenant: int | None
    """Number of the tenant in the file, from which the path goes on; None: the path is the file's."""
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class TenantRules:
    """The token limits and budgets of a tenant; models by their ``provider/model``."""

    token_limits: tuple[TokenLimit, ...] = ()
    budgets: tuple[Budget, ...] = ()

    @property
    def every(self) -> tuple[TokenLimit | Budget, ...]:
        """Both."""
        return (*self.token_limits, *self.budgets)

    def counting(self, m: Model) -> Iterator[TokenLimit | Budget]:
        """Those that count requests to a model, or to some of its targets."""
        for rule in self.every:
            if not rule.match.tools and (not rule.match.models or "/".join(m.known_as) in rule.match.models):
                yield rule

    def cost_counted(self, m: Model, endpoint: Endpoint) -> TokenLimit | Budget | None:
        """The first that counts what requests to an endpoint of a model cost."""
        for rule in self.counting(m):
            if (isinstance(rule, Budget) or rule.count == "cost") and (
                not rule.match.providers or endpoint.provider in rule.match.providers
            ):
                return rule
        return None

    def closes(self, m: Model) -> bool:
        """Whether a model's requests may not pass uncounted, as when there is no engine."""
        return any(rule.mode == "enforce" and rule.on_store_down != "open" for rule in self.counting(m))


_NONE: Final = TenantRules()


def rules_of(file: TenantsFile, tenant: Tenant) -> TenantRules:
    """What holds for a tenant: its own lists, else the defaults' as far as they concern its models."""
    usual, own = file.defaults, tenant
    if not (usual.token_limits or usual.budgets or own.token_limits or own.budgets):
        return _NONE
    known = names_of(tenant)
    return TenantRules(
        _resolved(file.defaults.token_limits, tenant.token_limits, known),
        _resolved(file.defaults.budgets, tenant.budgets, known),
    )


def names_of(tenant: Tenant) -> dict[str, str]:
    """``provider/model`` by all names of the tenant's models."""
    found: dict[str, str] = {}
    for m in tenant.models:
        provider, model = m.known_as
        name = f"{provider}/{model}"
        for own in (name, model, *m.aliases):
            found.setdefault(own, name)
    for m in tenant.models:  # a name of one's own is nobody else's
        if m.name is not None:
            found[m.name] = "/".join(m.known_as)
    return found


def asked(endpoint: Endpoint) -> Asked:
    """An endpoint as something with a price."""
    return Asked(
        endpoint.provider or "",
        endpoint.model or "",
        endpoint.upstream_url,
        endpoint.input_cost,
        endpoint.output_cost,
    )


def problems(file: TenantsFile) -> Iterator[MoneyProblem]:
    """Each problem of a file that is right but for them."""
    receivers = [r.name for r in getattr(getattr(file.gateway, "alerts", None), "receivers", ())]
    book = PriceBook(file.gateway.prices)
    used: set[str] = set()
    usual = file.defaults.token_limits or file.defaults.budgets
    for number, tenant in enumerate(file.tenants):
        if not (usual or tenant.token_limits or tenant.budgets):
            continue
        known = names_of(tenant)
        used.update(known)
        for path, what in _own_problems(tenant, known, receivers):
            yield MoneyProblem(number, path, what)
        yield from _from_defaults(file, number, tenant, known)
        rules = rules_of(file, tenant)
        for path, what in (*_same_names(tenant, rules), *_unpriced(tenant, rules, book)):
            yield MoneyProblem(number, path, what)
    for path, rule in _listed(file.defaults):
        for inner, what in _shared_problems(rule, receivers):
            yield MoneyProblem(None, f"defaults.{path}.{inner}", what)
        for k, name in enumerate(rule.match.models):
            if name not in used:
                what = f"no tenant has a model {name!r}{_close(name, used)}"
                yield MoneyProblem(None, f"defaults.{path}.match.models[{k}]", what)


def _listed(level: Defaults | Tenant) -> Iterator[tuple[str, TokenLimit | Budget]]:
    """The rules of a level, each with its path."""
    yield from ((f"token_limits[{i}]", rule) for i, rule in enumerate(level.token_limits or ()))
    yield from ((f"budgets[{i}]", rule) for i, rule in enumerate(level.budgets or ()))


def _resolved(usual: tuple[R, ...], own: tuple[R, ...] | None, known: Mapping[str, str]) -> tuple[R, ...]:
    given = usual if own is None else own
    return tuple(rule for one in given if (rule := _of_models(one, known)) is not None)


def _of_models(rule: R, known: Mapping[str, str]) -> R | None:
    """The rule with the models' own names; None where it concerns none of them."""
    if isinstance(rule, Budget) and any(step.with_.model for step in rule.steps):
        changes: dict[str, Any] = {"steps": tuple(_of_model(step, known) for step in rule.steps)}
        rule = dataclasses.replace(rule, **changes)
    if not rule.match.models:
        return rule
    models = tuple(dict.fromkeys(known[name] for name in rule.match.models if name in known))
    return dataclasses.replace(rule, match=dataclasses.replace(rule.match, models=models)) if models else None


def _of_model(step: BudgetStep, known: Mapping[str, str]) -> BudgetStep:
    return dataclasses.replace(
        step, with_=dataclasses.replace(step.with_, model=known.get(step.with_.model or ""))
    )


def plain(config: Any) -> dict[str, Any]:
    """A rule, or an object in it, as YAML would have it, without what is the default."""
    out: dict[str, Any] = {}
    for name, f in fields_of(type(config)).items():
        value = getattr(config, f.attribute)
        if value is None or (not f.required and value == f.default):
            continue
        if isinstance(f.shape, Record):
            value = plain(value)
        elif isinstance(f.shape, Many):
            value = [plain(v) if isinstance(f.shape.element, Record) else v for v in value]
        out[name] = value
    return out


def _own_problems(
    tenant: Tenant, known: Mapping[str, str], receivers: Sequence[str]
) -> Iterator[tuple[str, str]]:
    for where, rule in _listed(tenant):
        yield from ((f"{where}.{path}", what) for path, what in _shared_problems(rule, receivers))
        servers = [server.name for server in tenant.mcp]
        for k, name in enumerate(rule.match.tools):
            if (server := name.partition("/")[0]) not in servers:
                what = f"the tenant has no MCP server {server!r}{_close(server, servers)}"
                yield f"{where}.match.tools[{k}]", what
        named = [(f"match.models[{k}]", name) for k, name in enumerate(rule.match.models)]
        named += [(f"steps[{k}].with.model", name) for k, name in _degraded(rule)]
        for path, name in named:
            if name not in known:
                yield f"{where}.{path}", f"the tenant has no model {name!r}{_close(name, known)}"


def _shared_problems(rule: TokenLimit | Budget, receivers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What can be said of a rule without a tenant."""
    for k, name in enumerate(rule.match.providers):
        if name not in PROVIDERS:
            yield f"match.providers[{k}]", f"{name!r} is no provider" + _close(name, PROVIDERS)
    for k, step in enumerate(rule.steps if isinstance(rule, Budget) else ()):
        if step.to is not None and step.to not in receivers:
            yield (
                f"steps[{k}].to",
                f"gateway.alerts has no receiver {step.to!r}" + _close(step.to, receivers),
            )


def _from_defaults(
    file: TenantsFile, number: int, tenant: Tenant, known: Mapping[str, str]
) -> Iterator[MoneyProblem]:
    """A step of the defaults' budgets leads to a model that every tenant has."""
    if tenant.budgets is not None:
        return
    for i, rule in enumerate(file.defaults.budgets):
        for k, name in _degraded(rule):
            if name not in known:
                what = f"tenants[{number}], {tenant.id}, has no model {name!r}, and no budgets of its own"
                yield MoneyProblem(None, f"defaults.budgets[{i}].steps[{k}].with.model", what)


def _degraded(rule: TokenLimit | Budget) -> Iterator[tuple[int, str]]:
    for k, step in enumerate(rule.steps if isinstance(rule, Budget) else ()):
        if step.with_.model is not None:
            yield k, step.with_.model


def _same_names(tenant: Tenant, rules: TenantRules) -> Iterator[tuple[str, str]]:
    own = dict(_listed(tenant))
    seen: set[str] = set()
    for rule in rules.every:
        if rule.name in seen:
            at = [path for path, one in own.items() if one.name == rule.name]
            yield (f"{at[-1]}.name" if at else ""), f"two limits or budgets are called {rule.name!r}"
        seen.add(rule.name)


def _unpriced(tenant: Tenant, rules: TenantRules, book: PriceBook) -> Iterator[tuple[str, str]]:
    for i, m in enumerate(tenant.models):
        for k, endpoint in enumerate(m.endpoints):
            rule = rules.cost_counted(m, endpoint)
            if rule is None:
                continue
            try:
                book.counted(asked(endpoint))
            except Unpriced as reason:
                what = (
                    f"what {endpoint.provider}/{endpoint.model} costs isn't known, "
                    f"and the budget or limit {rule.name!r} counts it"
                )
                advice = (
                    "input_cost and output_cost, an entry in gateway.prices.overrides, or unknown: dearest"
                )
                at = f"models[{i}].targets[{k}].model" if m.targets else f"models[{i}].model"
                yield at, f"{what} ({reason}); give {advice}"


def _close(word: str, among: Collection[str]) -> str:
    found = difflib.get_close_matches(word, list(among), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
