"""Limits, budgets and prices in tenants.yaml: what is refused, with its line, and what policies have of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.config import load_text
from tenantgate.config.compile import compile_records
from tenantgate.config.load import TenantsFileError
from tenantgate.limits.core.reading import rules_of
from tenantgate.policy.core.records import TenantPolicy, read_record

MOCK = "{provider: mock, model: m, aliases: [fast], input_cost: 1, output_cost: 2}"
BARE = "{provider: mock, model: bare}"
FREE = "{provider: mock, model: bare, input: 0, output: 0}"
MONTH = "{name: month, max_budget: 500%s}"
TPM = "{name: tpm, limit: 1000%s}"


def text(own: str = "", *, head: str = "", models: str = MOCK, more: str = "") -> str:
    return (
        f"version: 1\n{head}\ntenants:\n  - id: a\n    api_keys: ['${{{{ env \"DECK_A\" }}}}']\n"
        f"    models: [{models}]\n    {own}\n{more}"
    )


def other(own: str = "", models: str = MOCK) -> str:
    return f"  - id: b\n    api_keys: ['${{{{ env \"DECK_B\" }}}}']\n    models: [{models}]\n    {own}\n"


def budget(more: str = "", **given: str) -> str:
    return text(f"budgets: [{MONTH % more}]", **given)


def steps(*lines: str) -> str:
    return f", steps: [{', '.join(lines)}]"


def limit(more: str) -> str:
    return text(f"token_limits: [{TPM % more}]")


@pytest.mark.parametrize(
    ("file", "path", "what"),
    [
        (limit(", limit: 1"), "token_limits[0].limit", "given twice"),
        (text("token_limits: [{name: x, limit: 1.5}]"), "token_limits[0].limit", "whole number of total tokens"),
        (limit(", count: dollars"), "token_limits[0].count", "not one of"),
        (limit(", window: 1mo"), "token_limits[0].window", "several lengths"),
        (limit(", window: 2m, window_type: calendar"), "token_limits[0].window", "none of the calendar's"),
        (limit(", timezone: Europe/Berlin"), "token_limits[0].timezone", "belongs to calendar"),
        (limit(", anchor_day: 2"), "token_limits[0].anchor_day", "belongs to calendar"),
        (limit(", cached: factor"), "token_limits[0].cached_factor", "required"),
        (limit(", cached_factor: 0.5"), "token_limits[0].cached_factor", "belongs to factor"),
        (limit(", match: {models: [fats]}"), "token_limits[0].match.models[0]", "did you mean 'fast'?"),
        (limit(", match: {providers: [openia]}"), "token_limits[0].match.providers[0]", "did you mean 'openai'?"),
        (text("token_limits: [{name: x, limit: 9000001, count: cost}]"), "token_limits[0].limit", "more than"),
        (budget(", budget_duration: 30d"), "budgets[0].budget_duration", "none of the calendar's"),
        (budget(", timezone: Europe/Berln"), "budgets[0].timezone", "no IANA time zone"),
        (budget(", timezone: ../etc"), "budgets[0].timezone", "no IANA time zone"),
        (budget(", budget_duration: 1w, anchor_day: 8"), "budgets[0].anchor_day", "not 8"),
        (budget(", budget_duration: 1d, anchor_day: 2"), "budgets[0].anchor_day", "belongs to 1w and 1mo"),
        (budget(", match: {tools: [shop]}"), "budgets[0].match.tools[0]", "the tenant has no MCP server 'shop'"),
        (budget(", match: {tools: [a], models: [fast]}"), "budgets[0].match.tools", "isn't used beside models"),
        (budget(", match: {tools: [A/b]}"), "budgets[0].match.tools[0]", "does not match"),
        (text("token_limits: [{name: x, limit: 1, count: bytes}]"), "token_limits[0].match.tools", "required"),
        (text("token_limits: [{name: x, limit: 1, match: {tools: [a]}}]"), "token_limits[0].count", "cost or bytes"),
        (budget(steps("{at: 80, do: notify}")), "budgets[0].steps[0].at", "must be a text"),
        (budget(steps("{at: 0%, do: notify}")), "budgets[0].steps[0].at", "before the first request"),
        (
            budget(steps("{at: 80%, do: notify}", "{at: 50%, do: notify}")),
            "budgets[0].steps[1].at",
            "steps rise",
        ),
        (
            budget(steps("{at: 80%, do: block}", "{at: 90%, do: notify}")),
            "budgets[0].steps[1].at",
            "never reached",
        ),
        (budget(steps("{at: 80%, do: degrade}")), "budgets[0].steps[0].with", "required with degrade"),
        (
            budget(steps("{at: 80%, do: notify, with: {compress: more}}")),
            "budgets[0].steps[0].with",
            "belongs to degrade",
        ),
        (
            budget(steps("{at: 80%, do: degrade, with: {model: fats}}")),
            "budgets[0].steps[0].with.model",
            "did you mean 'fast'?",
        ),
        (budget(steps("{at: 80%, do: notify, to: me}")), "budgets[0].steps[0].to", "no receiver 'me'"),
        (
            text(f"budgets: [{MONTH % ''}]\n    token_limits: [{{name: month, limit: 1}}]"),
            "budgets[0].name",
            "are called 'month'",
        ),
        (budget(models=f"{MOCK}, {BARE}"), "models[1].model", "the budget or limit 'month' counts it"),
        (
            budget(models="{name: two, targets: [{provider: mock, model: x, input_cost: 1, output_cost: 1}, "
            "{provider: mock, model: y}]}"),
            "models[0].targets[1].model",
            "mock/y costs isn't known",
        ),
        (
            text("token_limits: [{name: x, limit: 1, count: cost}]", models=BARE),
            "models[0].model",
            "the book has no prices of mock",
        ),
        (
            text(head=f"defaults: {{budgets: [{MONTH % ', match: {models: [fats]}'}]}}"),
            "defaults.budgets[0].match.models[0]",
            "no tenant has a model 'fats'; did you mean 'fast'?",
        ),
        (
            text(
                head=f"defaults: {{budgets: [{MONTH % steps('{at: 5%, do: degrade, with: {model: fast}}')}]}}",
                more=other(models="{provider: mock, model: z, input_cost: 1, output_cost: 1}"),
            ),
            "defaults.budgets[0].steps[0].with.model",
            "tenants[1], b, has no model 'fast'",
        ),
        (
            text(head="gateway: {prices: {overrides: [{provider: x, model: y, input: 1}]}}"),
            "gateway.prices.overrides[0].output",
            "required",
        ),
    ],
)  # fmt: skip
def test_what_can_t_hold_is_refused_where_it_stands(file: str, path: str, what: str) -> None:
    with pytest.raises(TenantsFileError) as refused:
        load_text(file)
    path = path if path.startswith(("defaults", "gateway")) else f"tenants[0].{path}"
    line = next(
        n for n, lines in enumerate(file.splitlines(), 1) if path.split(".")[1].split("[")[0] in lines
    )
    assert any(
        p.startswith(f"tenants.yaml:{line}: {path}: ") and what in p for p in refused.value.problems
    ), refused.value.problems


def compiled(file: str, tenant: str = "a") -> TenantPolicy:
    return read_record(tenant, compile_records(load_text(file))[tenant])


@pytest.mark.parametrize(
    "file",
    [
        budget(models=f"{MOCK}, {BARE}", head="gateway: {prices: {unknown: dearest}}"),
        budget(models=BARE, head=f"gateway: {{prices: {{overrides: [{FREE}]}}}}"),
        budget(", match: {models: [fast]}", models=f"{MOCK}, {BARE}"),
        budget(", match: {providers: [openai]}", models=f"{MOCK}, {BARE}"),
        limit("").replace(MOCK, BARE),
        text(models=BARE),
    ],
)  # fmt: skip
def test_a_price_is_asked_for_where_something_counts_it(file: str) -> None:
    assert compiled(file)


def test_names_of_models_are_those_of_the_policy() -> None:
    ladder = steps("{at: 50%, do: notify}", "{at: 90.5%, do: degrade, with: {model: fast, compress: more}}")
    found = compiled(budget(f", match: {{models: [fast, m, mock/m]}}{ladder}"))
    assert found.budgets[0]["match"] == {"models": ["mock/m"]}
    (rule,) = rules_of(found)
    assert rule.models == ("mock/m",)
    assert [(s.at_permille, s.do.value, s.degrade.model) for s in rule.steps] == [
        (500, "notify", None),
        (905, "degrade", "mock/m"),
        (1000, "block", None),
    ]


def test_a_tenant_s_own_lists_replace_the_defaults() -> None:
    head = (
        f"defaults:\n  token_limits: [{TPM % ''}, {{name: of-b, limit: 5, match: {{models: [z]}}}}]\n"
        f"  budgets: [{MONTH % ''}]\n  end_user_header: X-User"
    )
    z = "{provider: mock, model: z, input_cost: 1, output_cost: 2}"
    file = text("budgets: []\n    end_user_header: X-Own", head=head, more=other(models=z))
    a, b = compiled(file), compiled(file, "b")
    assert ([r["name"] for r in a.token_limits], a.budgets, a.end_user_header) == (["tpm"], (), "X-Own")
    assert [r["name"] for r in (*b.token_limits, *b.budgets)] == ["tpm", "of-b", "month"]
    assert b.end_user_header == "X-User"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("", [False, False]),
        (f"token_limits: [{TPM % ''}]", [False, False]),
        (f"token_limits: [{TPM % ', on_store_down: closed'}]", [True, True]),
        (f"token_limits: [{TPM % ', on_store_down: closed, mode: shadow'}]", [False, False]),
        (f"token_limits: [{TPM % ', on_store_down: closed, match: {models: [bare]}'}]", [False, True]),
        (f"budgets: [{MONTH % ', match: {models: [fast]}'}]", [True, False]),
        (f"budgets: [{MONTH % ', match: {models: [fast]}, on_store_down: open'}]", [False, False]),
    ],
)
def test_what_may_not_pass_uncounted_is_closed_without_an_engine(rule: str, expected: list[bool]) -> None:
    found = compiled(text(rule, models=f"{MOCK}, {BARE}"))
    assert [m.fail_closed for m in found.models] == expected


def test_targets_have_their_prices_and_their_longest_replies() -> None:
    models = (
        "{name: two, targets: [{provider: mock, model: x, input_cost: 1, output_cost: 1, max_output_tokens: 9}, "
        "{provider: openai, model: gpt-4o-mini, credential: '{vault://env/A}'}, {provider: mock, model: y}]}"
    )
    (found,) = compiled(text(models=models)).models
    kept: list[Any] = [
        (t.id, t.max_output_tokens, t.prices and t.prices.periods[0].prices["input"]) for t in found.targets
    ]
    assert kept == [
        ("mock/x", 9, 1_000_000_000),
        ("openai/gpt-4o-mini", None, 150_000_000),
        ("mock/y", None, None),
    ]
