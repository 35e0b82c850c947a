from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.config import load_text
from tenantgate.config.compile import compile_records
from tenantgate.features import by_section
from tenantgate.policy.core.difference import difference, differences
from tenantgate.policy.core.records import ModelPolicy, Target, TenantPolicy, write_record
from tenantgate.prices.core.price_list import PriceList, Prices
from tenantgate.tenant import TenantId

SECTIONS = {section: plugin.config_class for section, plugin in by_section().items()}
SECRET = "hunter2-not-to-be-seen"  # a marker, not a credential


def records(*tenants: str, defaults: str = "{}") -> dict[str, bytes]:
    """Records of tenants, each given as its id and further fields."""
    lines = "".join(
        f"  - {{api_keys: ['${{{{ env \"DECK_{i}\" }}}}'], id: {tenant}}}\n"
        for i, tenant in enumerate(tenants)
    )
    return compile_records(load_text(f"version: 1\ndefaults: {defaults}\ntenants:\n{lines}"))


GPT = "{provider: openai, model: gpt-4o, credential: '{vault://env/A}'%s}"
LLAMA = "{provider: groq, model: llama-3.3-70b, credential: '{vault://env/B}'%s}"


def acme(gpt: str | None = "", llama: str | None = "", rest: str = "") -> dict[str, bytes]:
    models = [form % own for form, own in ((GPT, gpt), (LLAMA, llama)) if own is not None]
    return records(f"acme, models: [{', '.join(models)}]{rest}")


def rules(text: str) -> str:
    return f", guardrails: {{rules: [{text}]}}"


INJECTION = "{name: injection, detector: injection%s}"
TOPIC = "{name: topic, detector: denied_topics, phrases: [%s]}"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            acme(rest=rules(INJECTION % "")),
            acme(rest=rules(INJECTION % ", mode: block")),
            "injection alert → block; requests while there is no engine: refused",
        ),
        (
            acme(rest=rules(INJECTION % "")),
            acme(", guardrails: {rules: [" + INJECTION % ", mode: block" + "]}", rest=rules(INJECTION % "")),
            "injection alert → block (gpt-4o); requests while there is no engine: refused (gpt-4o)",
        ),
        (acme(), acme(None), "model gpt-4o removed"),
        (acme(llama=None), acme(), "model llama-3.3-70b added"),
        (
            acme(", aliases: [fast]"),
            acme(llama=", aliases: [fast]"),
            "alias fast now means groq/llama-3.3-70b",
        ),
        (acme(), acme(", aliases: [fast]"), "alias fast added for openai/gpt-4o"),
        (acme(", aliases: [fast, smart]"), acme(", aliases: [smart]"), "alias fast removed"),
        (acme(", aliases: [a, b]"), acme(", aliases: [b, a]"), "models or aliases in another order"),
        (
            acme(rest=", rate_limit: {per_minute: 100}"),
            acme(rest=", rate_limit: {per_minute: 200}"),
            "rate limit 100 → 200 a minute",
        ),
        (
            acme(rest=", rate_limit: {per_minute: 100}"),
            acme(rest=", rate_limit: {per_hour: 9}, key_rate_limit: {per_day: 1}"),
            "rate limit 100 a minute removed; rate limit 9 an hour added; rate limit of each key 1 a day added",
        ),
        (acme(rest=", key_rate_limit: {per_day: 1}"), acme(), "rate limit of each key 1 a day removed"),
        (
            acme(", rate_limit: {per_day: 1}"),
            acme(", rate_limit: {per_day: 2}"),
            "rate limit of the model by itself 1 → 2 a day (gpt-4o)",
        ),
        (
            acme(),
            records(f"acme, models: [{GPT.replace('env/A', 'env/C') % ''}, {LLAMA % ''}]"),
            "credential of openai changed (gpt-4o)",
        ),
        (acme(", max_tokens: 5"), acme(", max_tokens: 6"), "max tokens 5 → 6 (gpt-4o)"),
        (
            acme(),
            acme(", max_tokens: 6, streaming: deny"),
            "response streaming allow → deny (gpt-4o); max tokens set to 6 (gpt-4o)",
        ),
        (acme(), acme(rest=", compression: {}"), "compression added"),
        (acme(rest=", compression: {}"), acme(), "compression removed"),
        (
            acme(rest=", compression: {deadline_ms: 200}"),
            acme(rest=", compression: {}"),
            "compression deadline 200 → 300 ms",
        ),
        (
            acme(rest=", compression: {}"),
            acme(rest=", compression: {deadline_ms: 300}"),
            "compression deadline 300 ms, as before",
        ),
        (
            acme(rest=", cache: {cache_ttl: 60}"),
            acme(rest=", cache: {cache_ttl: 90, exact_caching: false}"),
            "cache ttl 60 → 90 s; cache exact caching on → off",
        ),
        (
            acme(rest=rules(INJECTION % "")),
            acme(rest=rules(f"{INJECTION % ''}, {TOPIC % SECRET}")),
            "guardrails rule topic added",
        ),
        (
            acme(rest=rules(f"{INJECTION % ''}, {TOPIC % 'x'}")),
            acme(rest=rules(f"{TOPIC % 'x'}, {INJECTION % ''}")),
            "guardrails rules in another order",
        ),
        (
            acme(rest=rules(TOPIC % f"one two, {SECRET} and more")),
            acme(rest=rules(TOPIC % f"one two, three {SECRET} and, {SECRET} four")),
            "topic phrases: 2 added, 1 removed",
        ),
        (
            acme(rest=rules("{name: s, detector: secrets}")),
            acme(rest=rules("{name: s, detector: secrets, kinds: [PRIVATE_KEY, JWT]}")),
            "s kinds: JWT, PRIVATE_KEY added",
        ),
        (
            acme(rest=rules("{name: x, detector: patterns, patterns: [{name: P, regex: aaa}]}")),
            acme(
                rest=rules(
                    "{name: x, detector: patterns, patterns: [{name: P, regex: 'b+ c'}, {name: Q, regex: q}]}"
                )
            ),
            "x pattern Q added; x pattern P regex changed",
        ),
        (
            acme(rest=f"{rules(INJECTION % '')}, response_guardrails: {{rules: [{INJECTION % ''}]}}"),
            acme(
                rest=f"{rules(INJECTION % '')}, response_guardrails: {{rules: [{INJECTION % ', threshold: 0.7'}]}}"
            ),
            "response guardrails rule injection threshold set to 0.7",
        ),
        (
            acme(rest=", guardrails: {webhook: {url: 'https://h/a'}}"),
            acme(
                rest=f", guardrails: {{webhook: {{url: 'https://h/{SECRET}', secret: '{{vault://env/{SECRET}}}'}}}}"
            ),
            "guardrails webhook secret set; guardrails webhook url changed",
        ),
        (
            acme(rest=", cache: {partition_by: [user]}"),
            acme(rest=", cache: {partition_by: ['header:x', user]}"),
            "cache partition by: 1 added",
        ),
    ],
)
def test_a_change_is_said_in_words(old: dict[str, bytes], new: dict[str, bytes], line: str) -> None:
    assert list(differences(old, new, SECTIONS)) == [f"acme: {line}"]


CLAUDE = "{provider: anthropic, model: claude, credential: '{vault://env/C}'%s}"
OPENAI = "{provider: openai, model: gpt, credential: '{vault://env/A}'%s}"


def smart(*targets: str, more: str = "") -> dict[str, bytes]:
    return records(f"acme, models: [{{name: smart, targets: [{', '.join(targets)}]{more}}}]")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            smart(OPENAI % ""),
            smart(OPENAI % "", CLAUDE % ""),
            "target anthropic/claude added; failover and time-outs added; retries 0 → 1",
        ),
        (
            smart(CLAUDE % "", OPENAI % ""),
            smart(OPENAI % "", CLAUDE % ""),
            "targets in another order: openai/gpt, anthropic/claude",
        ),
        (
            smart(OPENAI % "", CLAUDE % ""),
            smart(
                OPENAI.replace(
                    "credential: '{vault://env/A}'", "credentials: ['{vault://env/A}', '{vault://env/B}']"
                )
                % "",
                CLAUDE % "",
            ),
            "target openai/gpt#2 added; retries 1 → 2",
        ),
        (
            smart(OPENAI % "", CLAUDE % ""),
            smart(OPENAI % ", weight: 7, max_tokens: 3", CLAUDE % ""),
            "target openai/gpt weight 100 → 7; target openai/gpt max tokens set to 3",
        ),
        (
            smart(OPENAI % "", CLAUDE % ""),
            smart(OPENAI % "", CLAUDE.replace("env/C", "env/D") % ""),
            "target anthropic/claude credential of anthropic changed",
        ),
        (
            smart(OPENAI % "", CLAUDE % ""),
            smart(OPENAI % "", CLAUDE % "", more=", balance: round-robin"),
            "balance priority → round-robin",
        ),
        (
            smart(OPENAI % "", CLAUDE % "", more=", balance: consistent-hashing"),
            smart(OPENAI % "", CLAUDE % "", more=", balance: consistent-hashing, hash_on_header: X-S"),
            "hash on header set to X-S",
        ),
        (
            smart(OPENAI % "", CLAUDE % "", more=", failover: {failover_criteria: [error, http_429]}"),
            smart(
                OPENAI % "", CLAUDE % "", more=", failover: {failover_criteria: [timeout, error], retries: 0}"
            ),
            "retries 1 → 0; failover after: timeout added, http_429 removed",
        ),
        (
            smart(OPENAI % "", CLAUDE % ""),
            smart(OPENAI % "", CLAUDE % "", more=", timeouts: {connect_s: 2, streaming: {ttft_s: 9}}"),
            "time-out of connecting 5 → 2 s; time-out of a stream's first byte 60 → 9 s",
        ),
    ],
)
def test_a_change_of_targets_is_said_in_words(
    old: dict[str, bytes], new: dict[str, bytes], line: str
) -> None:
    assert list(differences(old, new, SECTIONS)) == [f"acme: {line}"]


def limited(gateway: str, tenant: str = "") -> dict[str, bytes]:
    text = (
        f"version: 1\ngateway: {{{gateway}}}\ntenants:\n  - id: acme\n    api_keys: ['${{{{ env \"DECK_A\" }}}}']\n"
        f"    {tenant}\n    models: [{{provider: openai-compatible, model: m, upstream_url: 'https://a.h.example/v1/x'}}]"
    )
    return compile_records(load_text(text))


ALL = "egress: {allow: ['*.h.example', 'b.example:8443']}"


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            limited(""),
            limited(ALL),
            ["gateway: egress: only *.h.example, b.example:8443", "acme: failover and time-outs added"],
        ),
        (
            limited(ALL),
            limited(""),
            ["gateway: egress: no longer limited", "acme: failover and time-outs removed"],
        ),
        (
            limited(ALL),
            limited("egress: {allow: ['*.h.example', c.example, d.example]}"),
            ["gateway: egress: c.example, d.example added, b.example:8443 removed"],
        ),
        (limited(ALL), limited(ALL, "egress: {allow: [a.h.example]}"), ["acme: egress: only a.h.example"]),
    ],
)
def test_a_change_of_egress_is_said_in_words(
    old: dict[str, bytes], new: dict[str, bytes], lines: list[str]
) -> None:
    assert list(differences(old, new, SECTIONS)) == lines


def test_tenants_come_and_go_in_the_order_of_their_ids() -> None:
    old = records("globex", "hooli")
    new = records(
        "initech, models: [{provider: mock, model: a, aliases: [smart]}, {provider: mock, model: b, aliases: [fast]}, "
        "{provider: mock, model: c}]",
        "hooli",
        "acme",
    )
    assert list(differences(old, new)) == [
        "acme: added, 1 model",
        "globex: removed",
        "initech: added, 3 models, aliases fast, smart",
    ]


def test_a_model_that_two_providers_have_is_named_with_its_provider() -> None:
    both = "acme, models: [{provider: mock, model: m}, {provider: openai, model: m, credential: '{vault://env/A}'%s}]"
    (line,) = differences(records(both % ""), records(both % ", max_tokens: 3"))
    assert line == "acme: max tokens set to 3 (openai/m)"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (b"{", records("a")["a"], "in place of a record that can't be read, 1 model"),
        (records("a")["a"], b"[]", "the new record can't be read"),
        (None, b"", "the new record can't be read"),
        (b"{", None, "removed"),
        (records("a")["a"], b" " + records("a")["a"], "written differently"),
    ],
)
def test_records_that_can_not_be_read_are_changes(old: bytes | None, new: bytes | None, line: str) -> None:
    assert difference("a", old, new) == [line]


def test_another_share_of_limits() -> None:
    old, new = (write_record(TenantPolicy(tenant=TenantId("a"), weight=n)) for n in (100, 300))
    assert difference("a", old, new) == ["share of limits of providers: weight 100 -> 300"]


def test_names_can_not_act_on_a_terminal() -> None:
    model = ModelPolicy(
        provider="p",
        model="\x1b[2Jm",
        route_name="r",
        aliases=("\rx\u202e",),
        targets=(Target(provider="p", name="n"),),
    )
    raw = write_record(TenantPolicy(tenant=TenantId("a\nb"), models=(model,)))
    (line,) = differences({"a\nb": write_record(TenantPolicy(tenant=TenantId("a\nb")))}, {"a\nb": raw})
    assert line.isprintable()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "a", SECRET, "{vault://env/X}", "two words"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "mode", "secret", "rules", "url", "per_day"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
STAGES = st.dictionaries(
    st.sampled_from(["limits", "guardrails", "cache", "other"]),
    st.dictionaries(
        st.sampled_from(["rules", "webhook", "tenant", "key", "mode", "cache_ttl"]), JSON, max_size=3
    ),
    max_size=3,
)
TARGETS = st.builds(
    Target,
    provider=st.sampled_from(["openai", "mistral"]),
    name=st.sampled_from(["m", "n"]),
    options=st.dictionaries(st.sampled_from(["max_tokens", "upstream_url"]), JSON, max_size=2),
    credential=st.sampled_from([None, f"{{vault://env/{SECRET}}}", f"{{vault://env/{SECRET}2}}"]),
    header_name=st.sampled_from([None, "Authorization"]),
    bearer=st.booleans(),
)
MODELS = st.builds(
    ModelPolicy,
    provider=st.sampled_from(["p", "q"]),
    model=st.sampled_from(["m", "n"]),
    route_name=st.sampled_from(["r", "s"]),
    aliases=st.lists(st.sampled_from(["fast", "smart"]), unique=True).map(tuple),
    targets=st.lists(TARGETS, min_size=1, max_size=2).map(tuple),
    stages=STAGES,
    fail_closed=st.booleans(),
)
POLICIES: st.SearchStrategy[Any] = st.builds(
    TenantPolicy,
    tenant=st.just(TenantId("acme")),
    models=st.lists(MODELS, max_size=3, unique_by=lambda m: m.qualified).map(tuple),
)


@settings(max_examples=40)  # a record is large: most of the time goes into making one
@given(POLICIES, POLICIES)
def test_only_equal_records_have_no_difference(old: TenantPolicy, new: TenantPolicy) -> None:
    before, after = write_record(old), write_record(new)
    found = difference("acme", before, after, SECTIONS)
    assert (found == []) == (before == after)
    assert all(line and line.isprintable() for line in found)
    assert list(differences({"acme": before}, {"acme": after}, SECTIONS)) == (
        [f"acme: {'; '.join(found)}"] if found else []
    )


@settings(max_examples=40)
@given(POLICIES, POLICIES)
def test_references_are_never_shown(old: TenantPolicy, new: TenantPolicy) -> None:
    text = "\n".join(difference("acme", write_record(old), write_record(new), SECTIONS))
    assert "vault" not in text
    assert "://" not in text


LADDER = ", steps: [{at: 50%%, do: notify}, {at: %s, do: degrade, with: {compress: more}}]"


def money(
    budget: str = "", limit: str = "", rest: str = "", *, cost: str = "input_cost: 1"
) -> dict[str, bytes]:
    model = f"{{provider: mock, model: m, {cost}, output_cost: 2}}"
    lists = f", budgets: [{{name: month, {budget}}}]" if budget else ""
    lists += f", token_limits: [{{name: tpm, {limit}}}]" if limit else ""
    return records(f"acme, models: [{model}]{lists}{rest}")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (money("max_budget: 500"), money("max_budget: 700"), "budget month 500 → 700"),
        (money("max_budget: 500"), money("max_budget: 0.5"), "budget month 500 → 0.5"),
        (
            money(),
            money("max_budget: 500"),
            "budget month 500 added; requests while there is no engine: refused",
        ),
        (money(limit="limit: 9"), money(), "limit tpm 9 removed"),
        (money(limit="limit: 9"), money(limit="limit: 9, window: 5m"), "limit tpm window 1m → 5m"),
        (money(limit="limit: 9"), money(limit="limit: 9, mode: shadow"), "limit tpm enforce → shadow"),
        (
            money(limit="limit: 9"),
            money(limit="limit: 9, match: {models: [m]}"),
            "limit tpm match models: mock/m added",
        ),
        (
            money("max_budget: 5, timezone: Europe/Berlin"),
            money("max_budget: 5"),
            "budget month timezone Europe/Berlin → UTC",
        ),
        (
            money("max_budget: 5" + LADDER % "90%"),
            money("max_budget: 5" + LADDER % "95.5%"),
            "budget month steps: 95.5% degrade (compress more) added, 90% degrade (compress more) removed",
        ),
        (money(rest=", end_user_header: X-User"), money(), "end users: by the request's user"),
        (money(), money(rest=", end_user_header: X-User"), "end users: by the header X-User"),
        (money(), money(cost="input_cost: 1.5"), "input price 1 → 1.5; input cost 1.0 → 1.5"),
    ],
)
def test_limits_budgets_and_prices_are_told_in_words(
    old: dict[str, bytes], new: dict[str, bytes], line: str
) -> None:
    assert list(differences(old, new, SECTIONS)) == [f"acme: {line}"]


def test_another_book_is_told() -> None:
    def of(book: str | None, **more: int) -> dict[str, bytes]:
        periods = (Prices(prices={"input": 150_000_000, "output": 1, **more}),)
        prices = None if book is None else PriceList(book=book, periods=periods)
        target = Target(provider="openai", name="m", id="openai/m", prices=prices)
        model = ModelPolicy(provider="openai", model="m", route_name="r", targets=(target,))
        return {"a": write_record(TenantPolicy(tenant=TenantId("a"), models=(model,)))}

    assert list(differences(of("b 1"), of("b 2"))) == ["a: prices by b 2, before by b 1"]
    assert list(differences(of(None), of("b 2"))) == ["a: prices by b 2"]
    assert list(differences(of("b 1"), of(None))) == ["a: prices no longer known"]
    assert list(differences(of("b 1"), of("b 1", cache_read=75))) == ["a: cache read price none → 7.5e-08"]
