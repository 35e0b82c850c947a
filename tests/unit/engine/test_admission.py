"""Limits and budgets through the engine's phases, with a ledger in memory: what requests hold, get told, and leave."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.engine.admission import Admission
from tenantgate.engine.config import EngineConfig
from tenantgate.engine.core.tables import DECISION, LOG, REQUEST
from tenantgate.engine.service import Engine
from tenantgate.kong.host import Host
from tenantgate.kong.phase import phase
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.limits.core.claims import end_user_subject
from tenantgate.limits.core.keys import counter_name
from tenantgate.limits.core.ledger import Claim, NotCountedError, Reservation, Reserved, Room, Settlement
from tenantgate.limits.core.reading import rules_of
from tenantgate.limits.local_ledger import LocalLedger
from tenantgate.limits.service import Limits
from tenantgate.policy.core.records import (
    CATALOG,
    Catalog,
    ModelPolicy,
    Routing,
    Target,
    TenantPolicy,
    read_record,
    write_catalog,
    write_record,
)
from tenantgate.prices.core.price_list import PriceList, Prices
from tenantgate.routing.in_flight import InFlight
from tenantgate.routing.registry import Registry
from tenantgate.routing.service import Router
from tenantgate.routing.stored import sealer
from tenantgate.tenant import TenantId

CONFIG = EngineConfig(
    policy_path="/nowhere/policy.sqlite", encryption_key="k" * 32, rate_limit_policy="local"
)
DOLLAR = 10**9
# $1 a million tokens of the prompt, $10 of the reply: 1,000 and 10,000 nano-dollars a token.
PRICES = PriceList(book="test", periods=(Prices(prices={"input": DOLLAR, "output": 10 * DOLLAR}),))
CHEAP = PriceList(book="test", periods=(Prices(prices={"input": DOLLAR // 10, "output": DOLLAR}),))
BUDGET = {"name": "main", "max_budget": 1.0}
COUNTS = {"prompt_tokens": 10, "completion_tokens": 20}
USAGE = {"format": "openai", "stream": False, "complete": True, "counts": COUNTS}
COST = 10 * 1_000 + 20 * 10_000
_ids = itertools.count(1)


def target(name: str = "gpt-4o", provider: str = "openai", **changes: Any) -> Target:
    given: dict[str, Any] = {"provider": "openai", "name": name, "id": f"{provider}/{name}", "prices": PRICES}
    return Target(**(given | changes))


def model(name: str = "gpt-4o", *, provider: str = "openai", **changes: Any) -> ModelPolicy:
    given: dict[str, Any] = {
        "provider": provider,
        "model": name,
        "route_name": f"llm.{provider}.{name}.acme",
        "targets": (target(name, provider),),
    }
    return ModelPolicy(**(given | changes))


class Memory:
    """A policy directory in memory."""

    ready = True

    def __init__(self, engine: Engine, policy: TenantPolicy) -> None:
        names = frozenset(n for m in policy.models for n in (m.model, m.qualified))
        self._tenant = engine._parse("acme", write_record(policy))
        self._catalog = engine._parse(CATALOG, write_catalog(Catalog(models=names)))

    def get(self, tenant: TenantId) -> Any:
        return {"acme": self._tenant, CATALOG: self._catalog}.get(str(tenant))


class Gone:
    """A ledger that can't be asked."""

    def reserve(self, asked: Reservation) -> Reserved:
        raise NotCountedError("gone")

    def settle(self, ended: Settlement) -> list[Room]:
        raise NotCountedError("gone")


class World:
    """An engine of one tenant, as a plugin."""

    policy = PhasePolicy(deadline_ms=60_000)

    def __init__(self, *models: ModelPolicy, ledger: Any = None, **tenant: Any) -> None:
        self.record = TenantPolicy(
            tenant=TenantId("acme"), models=models or (model(),), **{"budgets": (BUDGET,), **tenant}
        )
        self.ledger = LocalLedger() if ledger is None else ledger
        self.limits = Limits(self.ledger)
        routing = Router(Registry(None, sealer(CONFIG.encryption_key)), InFlight(None))
        self.engine = Engine(CONFIG, directory=object(), routing=routing)  # type: ignore[arg-type]
        self.engine._admission = Admission(self.limits)
        self.change()

    def change(self, **tenant: Any) -> None:
        """Another version of the policy."""
        self.record = replace(self.record, **tenant)
        self.engine._directory = Memory(self.engine, self.record)  # type: ignore[assignment]

    @phase
    def access(self, host: Host) -> None:
        self.engine.access(host)

    @phase
    def log(self, host: Host) -> None:
        self.engine.log(host)

    def ask(self, body: Any = None, **packed: Any) -> FakeKong:
        """A request, up to its decision."""
        given = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
        request = {
            "tenant": "acme",
            "credential": "c-1",
            "id": f"{next(_ids):032x}",
            "method": "POST",
            "path": "/v1/chat/completions",
            "captures": [],
            "headers": {"content-type": "application/json"},
            "body": json.dumps(given if body is None else body).encode(),
        } | packed
        return FakeKong(shared={REQUEST: request}).run(self, "access")

    def end(self, kong: FakeKong, **end: Any) -> None:
        """The request's log phase."""
        decision = kong.shared.get(DECISION)
        table = {
            "request": {k: kong.shared[REQUEST][k] for k in ("tenant", "credential", "id")},
            "decided": decision is not None,
            "state": {} if decision is None else decision["state"],
            "shared": {},
            "source": "service",
            "status": 200,
            "provider_status": 200,
            "sent": True,
            "body_size": 40,
            **end,
        }
        record = table.pop("record", {})
        FakeKong(shared={LOG: table}, record=record).run(self, "log")
        assert self.limits.flush(5)

    def room(self, name: str = "main", subject: str = "") -> Room:
        """What a rule's counter says."""
        policy = read_record("acme", write_record(self.record))
        rule = next(rule for rule in rules_of(policy) if rule.name == name)
        claim = Claim(
            counter=counter_name(rule, subject),
            counted=rule.counted,
            most=rule.most,
            window=rule.window,
            fixed=0,
            shadow=True,
        )
        probe = Reservation(
            tenant=TenantId("acme"),
            id=f"probe-{next(_ids)}",
            claims=(claim,),
            worst_tokens=0,
            expected_tokens=0,
            lifetime_ms=1000,
        )
        room: Room = self.ledger.reserve(probe).rooms[0]
        return room


def passed(kong: FakeKong) -> bool:
    return kong.exit is None and "target" in kong.shared[DECISION]


def sent(kong: FakeKong) -> Any:
    """The body that goes upstream."""
    decision = kong.shared[DECISION]
    return json.loads(decision.get("body", kong.shared[REQUEST]["body"]))


def error(kong: FakeKong) -> tuple[int, str]:
    assert kong.exit is not None
    return kong.exit.status, kong.exit.json["error"]["code"]


# With it whatever is asked is counted, and passes.
WORLD = World(budgets=({**BUDGET, "mode": "shadow"},), token_limits=({"name": "t", "limit": 10**15},))

# -- the ends of a request -------------------------------------------------------------------------------

CUT = {"format": "openai", "stream": True, "complete": False, "chunks": 3}
TIMEOUT = {"target": "openai/gpt-4o", "outcome": "timeout", "status": 0, "ms": 1, "limits": {}}
REFUSED = {**TIMEOUT, "outcome": "http_429", "status": 429}
OK = {**TIMEOUT, "outcome": "ok", "status": 200}
HELD = "held"

ENDS: Mapping[str, tuple[dict[str, Any], int | str]] = {
    "whole reply": ({"usage": USAGE}, COST),
    "stream to its end": ({"usage": {**USAGE, "stream": True}}, COST),
    "reply withheld by a guard": ({"usage": USAGE, "source": "exit", "status": 400}, COST),
    "stream broken off by the provider": ({"usage": CUT}, HELD),
    "stream broken off by the client": ({"usage": CUT, "status": 499}, HELD),
    "client gone before a reply": ({"status": 499, "provider_status": None, "source": "error"}, HELD),
    "provider's time-out": ({"status": 504, "provider_status": None, "source": "error"}, HELD),
    "provider never reached": ({"status": 502, "provider_status": None, "source": "error", "sent": False}, 0),
    "provider's 400": ({"status": 400, "provider_status": 400}, 0),
    "provider's 429": ({"status": 429, "provider_status": 429}, 0),
    "provider's 500": ({"status": 500, "provider_status": 500}, 0),
    "provider's 502": ({"status": 502, "provider_status": 502}, HELD),
    "credential not to be had": (
        {"status": 503, "provider_status": None, "source": "exit", "sent": False},
        0,
    ),
    "reply without a usage, counted by Kong": ({"record": {"ai": {"proxy": {"usage": COUNTS}}}}, COST),
    "reply without any count": ({}, HELD),
    "tries: refused, then answered": ({"tries": [REFUSED, OK], "usage": USAGE}, COST),
    "tries: none reached": ({"tries": [{**REFUSED, "outcome": "error", "status": 0}], "status": 503}, 0),
    "tries: refused by the egress list": ({"tries": [{**REFUSED, "outcome": "refused"}], "status": 503}, 0),
    "tries: reset": ({"tries": [{**TIMEOUT, "outcome": "reset"}], "status": 502}, HELD),
    "tries: client gone": ({"tries": [{**TIMEOUT, "outcome": "aborted"}], "status": 499}, HELD),
}


@pytest.mark.parametrize(("end", "charged"), ENDS.values(), ids=ENDS.keys())
def test_every_end_settles(end: dict[str, Any], charged: int | str) -> None:
    world = World()
    kong = world.ask()
    held = world.room().held
    assert held > 100 * 10_000
    world.end(kong, **end)
    assert world.room() == replace(world.room(), held=0, used=held if charged == HELD else charged)


def test_the_same_end_twice_is_charged_once() -> None:
    world = World()
    kong = world.ask()
    world.end(kong, usage=USAGE)
    world.end(kong, usage=USAGE)
    assert world.room().used == COST


def test_earlier_tries_that_may_be_billed_are_charged_beside_the_last() -> None:
    several = model(
        targets=(target(), target(provider="azure")),
        routing=Routing(failover_criteria=("timeout",), retries=1),
    )
    world = World(several)
    kong = world.ask()
    held = world.room().held
    world.end(kong, tries=[TIMEOUT, {**OK, "target": "azure/gpt-4o"}], usage=USAGE)
    assert world.room().used == held // 2 + COST


def test_a_guards_block_costs_nothing_but_a_request() -> None:
    block = {"rules": [{"name": "s", "detector": "secrets", "mode": "block"}], "exemptions": False}
    requests = {
        "name": "requests",
        "count": "requests",
        "limit": 5,
        "window_type": "calendar",
        "window": "1d",
    }
    world = World(model(stages={"guardrails": {**block, "deadline_ms": 1500}}), token_limits=(requests,))
    secret = {"model": "gpt-4o", "messages": [{"role": "user", "content": "my key is AKIAIOSFODNN7EXAMPLE"}]}
    kong = world.ask(secret)
    assert error(kong)[0] == 400
    world.end(kong, source="exit", status=400, provider_status=None, sent=False)
    assert (world.room().used, world.room().held, world.room("requests").used) == (0, 0, 1)


def lost(number: str, **end: Any) -> dict[str, Any]:
    """The end of a request that no engine saw."""
    request = {"tenant": "acme", "credential": "c-1", "id": number * 16}
    return {"request": request, "decided": False, "recalled": "openai/gpt-4o", "body_size": 40, **end}


def test_a_request_without_a_decision_is_charged_afterwards() -> None:
    world = World(budgets=({**BUDGET, "on_store_down": "open"},))
    direct, nothing = (
        FakeKong(shared={REQUEST: lost("ab")["request"]}),
        FakeKong(shared={REQUEST: lost("ba")["request"]}),
    )
    world.end(direct, recalled="openai/gpt-4o", usage=USAGE)
    assert world.room().used == COST
    world.end(nothing, source="exit")
    assert world.room().used == COST
    # The engine was dead in the log phase, too: the next one that it sees tells of them, and once is enough.
    later = world.ask()
    world.end(
        later, usage=USAGE, ends=[lost("ab", usage=USAGE), lost("cd", usage=USAGE), lost("ef", sent=True)]
    )
    unknown = world.room().used - 3 * COST
    assert unknown > 4096 * 10_000


def several(*names: str) -> ModelPolicy:
    """A model with a target of each provider."""
    targets = tuple(target("gpt-4o", name) for name in names)
    return model(routing=Routing(failover_criteria=("error",)), targets=targets)


@pytest.mark.parametrize(
    "limit", [{"per": "provider", "match": {"providers": ["first"]}}, {"match": {"providers": ["first"]}}]
)
@pytest.mark.parametrize("count", ["requests", "total_tokens"])
def test_a_full_provider_leaves_requests_to_the_others(limit: dict[str, Any], count: str) -> None:
    most = {"requests": 1, "total_tokens": 200}[count]
    rule = {"name": "r", "count": count, "limit": most, "window": "1h", **limit}
    world = World(several("first", "second"), budgets=(), token_limits=(rule,))
    went = [world.ask() for _ in range(3)]
    targets = [[t["id"] for t in kong.shared[DECISION]["targets"]] for kong in went]
    assert targets == [["first/gpt-4o", "second/gpt-4o"], ["second/gpt-4o"], ["second/gpt-4o"]]
    for kong in went:
        world.end(kong, usage=USAGE, tries=[{"target": "second/gpt-4o", "outcome": "ok", "status": 200}])
    assert passed(world.ask()) is True
    world.change(token_limits=(rule, {**rule, "name": "all", "match": {}, "per": "tenant"}))
    answers = [world.ask() for _ in range(3)]
    assert error(answers[-1]) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize("window", ["1h", "1d"])
@pytest.mark.parametrize("cached", ["free", "tokens"])
def test_a_request_counts_for_the_providers_that_were_asked(window: str, cached: str) -> None:
    rule = {
        "name": "r",
        "count": "requests",
        "limit": 1,
        "window": window,
        "per": "provider",
        "cached": cached,
    }
    world = World(several("first", "second", "third"), budgets=(), token_limits=(rule,))
    for names in (("first", "second"), ("third",)):
        kong = world.ask()
        assert passed(kong)
        tries = [{"target": f"{name}/gpt-4o", "outcome": "http_503", "status": 503} for name in names]
        world.end(kong, usage=USAGE, tries=[*tries[:-1], {**tries[-1], "outcome": "ok", "status": 200}])
    assert error(world.ask()) == (429, "rate_limit_exceeded")


def test_an_end_that_a_dead_engine_had_is_settled_by_the_next_and_kong_is_told() -> None:
    world = World()
    first, second = world.ask(), world.ask()
    of_first = {
        "request": {k: first.shared[REQUEST][k] for k in ("tenant", "credential", "id")},
        "decided": True,
        "state": {k: v for k, v in first.shared[DECISION]["state"].items() if k in ("model", "limits")},
        "source": "service", "status": 200, "provider_status": 200, "sent": True, "usage": USAGE,
    }  # fmt: skip
    gone = {**of_first, "request": {**of_first["request"], "tenant": "nobody", "id": "f" * 32}}
    for _ in range(2):  # it comes again until Kong is told
        world.end(second, usage=USAGE, ends=[of_first, gone], ends_dropped=1)
        assert (world.room().used, world.room().held) == (2 * COST, 0)
    told = set(world.ask().shared[DECISION]["settled"])
    assert told == {k.shared[REQUEST]["id"] for k in (first, second)} | {"f" * 32}
    assert "settled" not in world.ask().shared[DECISION]


def test_a_request_that_kong_has_refused_gets_back_what_it_holds() -> None:
    per = [{**BUDGET, "name": kind, "per": kind} for kind in ("key", "model", "provider")]
    world = World(budgets=(BUDGET, *per))
    before = world.room()
    late, dead, answered = world.ask(), world.ask(), world.ask()
    held = world.room().held
    for kong in (late, dead):
        del kong.shared[DECISION]
    world.end(late, source="exit", status=503, provider_status=0, sent=False)
    assert world.room().held == held * 2 // 3
    refused = {
        "request": {k: dead.shared[REQUEST][k] for k in ("tenant", "credential", "id")},
        "decided": False,
        "source": "exit",
        "sent": False,
    }
    world.end(answered, usage=USAGE, ends=[refused])
    assert (world.room().held, world.room().used) == (0, before.used + COST)


@pytest.mark.parametrize(
    ("tenant", "settled"),
    [
        ({"token_limits": ({"name": "r", "count": "requests", "limit": 2, "cached": "tokens"},)}, 0),
        (
            {"token_limits": ({"name": "r", "count": "requests", "limit": 2},)},
            2,
        ),  # one from the cache is free
        ({"token_limits": ({"name": "r", "count": "total_tokens", "limit": 10**6},)}, 2),
    ],
)
def test_limits_on_requests_alone_are_settled_when_they_are_counted(tenant: Any, settled: int) -> None:
    class Settling(LocalLedger):
        ends = 0

        def settle(self, ended: Settlement) -> Sequence[Room]:
            self.ends += 1
            return super().settle(ended)

    world = World(budgets=(), ledger=Settling(), **tenant)
    for end in ({"usage": USAGE}, {"status": 502, "provider_status": None, "source": "error", "sent": False}):
        kong = world.ask()
        assert passed(kong)
        world.end(kong, **end)
    assert world.ledger.ends == settled
    if tenant["token_limits"][0]["count"] == "requests":
        assert error(world.ask()) == (429, "rate_limit_exceeded")


# -- what a request holds --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "tokens", "replies"),
    [
        ({"max_tokens": 100}, 100, 1),
        ({"max_completion_tokens": 100}, 100, 1),
        ({"max_tokens": 100, "n": 3}, 100, 3),
        # Kong writes these as the whole numbers that they are.
        ({"max_tokens": 100, "n": 3.0}, 100, 3),
        ({"max_tokens": 100.0, "n": 2}, 100, 2),
        ({"max_tokens": 100, "best_of": "5"}, 100, 5),
        ({"max_tokens": 10, "max_completion_tokens": 100.0}, 100, 1),
        # To some providers this is no limit.
        ({"max_completion_tokens": 0}, 4096, 1),
        ({"max_tokens": 100, "max_completion_tokens": 0}, 100, 1),
        ({}, 4096, 1),
    ],
)
def test_the_worst_case_of_a_reply(members: dict[str, Any], tokens: int, replies: int) -> None:
    world = World()
    kong = world.ask({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], **members})
    prompt = world.room().held - tokens * replies * 10_000
    assert 0 < prompt <= 100 * 1_000
    # Where the client says nothing the most is written into the request, or it wouldn't hold.
    asked = [sent(kong)[name] for name in ("max_tokens", "max_completion_tokens") if name in sent(kong)]
    assert max(asked) == tokens
    assert min(asked) > 0


@pytest.mark.parametrize(
    "members", [{"n": 10**30}, {"max_tokens": 10**30}, {"n": 1e300, "max_tokens": 1e300}]
)
@pytest.mark.parametrize("changes", [{"mode": "shadow"}, {"on_tight": "admit"}, {"on_tight": "refuse"}])
def test_numbers_beyond_all_bounds_are_counted(members: dict[str, Any], changes: dict[str, Any]) -> None:
    world = World(budgets=({**BUDGET, **changes},))
    kong = world.ask({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], **members})
    if "on_tight" in changes and changes["on_tight"] == "refuse":
        assert error(kong) == (429, "budget_exhausted")
        return
    assert passed(kong)
    assert world.room().held > 0
    world.end(kong)
    assert world.room().used >= DOLLAR


def test_the_models_own_cap_and_the_dearest_target() -> None:
    several = model(
        targets=(
            target(prices=CHEAP, max_output_tokens=2000),
            target(provider="azure", max_output_tokens=1000),
        ),
        routing=Routing(),
    )
    world = World(several)
    kong = world.ask({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]})
    assert 1000 * 10_000 < world.room().held < 1010 * 10_000
    assert sent(kong)["max_completion_tokens"] == 1000


def test_rates_leave_the_length_of_a_reply_alone() -> None:
    tokens = {"name": "tokens", "limit": 10_000}
    world = World(budgets=(), token_limits=(tokens,))
    kong = world.ask({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]})
    assert not {"max_tokens", "max_completion_tokens"} & sent(kong).keys()
    assert world.room("tokens").used > 0


def test_a_price_that_nobody_knows_is_refused() -> None:
    world = World(model(targets=(target(prices=None),)))
    assert error(world.ask()) == (403, "price_unknown")
    shadow = World(model(targets=(target(prices=None),)), budgets=({**BUDGET, "mode": "shadow"},))
    assert passed(shadow.ask())


def test_an_operation_that_is_not_paid_by_the_token_needs_a_price_of_a_request() -> None:
    image = {"model": "gpt-4o", "prompt": "a cat"}
    assert error(World().ask(image, path="/v1/images/generations")) == (403, "price_unknown")
    own = PriceList(book="own", periods=(Prices(prices={"input": 0, "output": 0, "request": 40_000_000}),))
    world = World(model(targets=(target(prices=own),)))
    kong = world.ask(image, path="/v1/images/generations")
    assert world.room().held == 40_000_000
    world.end(kong)
    assert (world.room().used, world.room().held) == (40_000_000, 0)


def test_each_picture_costs_what_a_request_does() -> None:
    own = PriceList(book="own", periods=(Prices(prices={"input": 0, "output": 0, "request": 40_000_000}),))
    world = World(model(targets=(target(prices=own),)))
    kong = world.ask({"model": "gpt-4o", "prompt": "a cat", "n": 3}, path="/v1/images/generations")
    assert world.room().held == 3 * 40_000_000
    world.end(kong)
    assert (world.room().used, world.room().held) == (3 * 40_000_000, 0)


def test_a_reply_without_a_count_isnt_a_request_alone_where_tokens_cost() -> None:
    prices = PriceList(
        book="own", periods=(Prices(prices={"input": DOLLAR, "output": 10 * DOLLAR, "request": 5_000_000}),)
    )
    world = World(model(targets=(target(prices=prices),)))
    kong = world.ask()
    held = world.room().held
    world.end(kong)
    assert world.room().used == held > 5_000_000 + 100 * 10_000


def test_each_of_several_texts_may_fill_the_window() -> None:
    world = World(model(targets=(target(context_window=1000),)))
    texts = ["word " * 900] * 20
    assert passed(world.ask({"model": "gpt-4o", "input": texts}, path="/v1/embeddings"))
    assert world.room().held > 20 * 900 * 1_000
    ids = World(model(targets=(target(context_window=1000),)))
    assert passed(ids.ask({"model": "gpt-4o", "input": [[1] * 900] * 20}, path="/v1/embeddings"))
    assert ids.room().held >= 20 * 900 * 1_000


@pytest.mark.parametrize(
    ("members", "of_book", "of_file", "by_request"),
    [
        ({"service_tier": "priority"}, False, True, True),
        ({"service_tier": "of-tomorrow"}, False, True, True),
        ({"service_tier": "flex"}, True, True, True),
        ({"service_tier": None}, True, True, True),
        ({"web_search_options": {"search_context_size": "high"}}, False, False, True),
        ({"web_search_options": {}}, False, False, True),
        ({"plugins": []}, True, True, True),
        ({"tools": [{"type": "web_search"}]}, False, False, True),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, True, True, True),
    ],
)
def test_what_costs_more_than_tokens_needs_a_price(
    members: dict[str, Any], of_book: bool, of_file: bool, by_request: bool
) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], **members}
    own = replace(PRICES, book="tenants.yaml")
    requests = replace(PRICES, periods=(Prices(prices={**PRICES.periods[0].prices, "request": 1}),))
    for prices, passes in ((PRICES, of_book), (own, of_file), (requests, by_request)):
        kong = World(model(targets=(target(prices=prices),))).ask(body)
        assert passed(kong) == passes
        if not passes:
            assert error(kong) == (403, "price_unknown")
    # Where no money counts, nobody needs a price.
    assert passed(World(budgets=(), token_limits=({"name": "t", "limit": 10**6},)).ask(body))


def test_completions_of_several_prompts() -> None:
    world = World()
    body = {"model": "gpt-4o", "prompt": ["a", "b"], "n": "3", "best_of": 4}
    kong = world.ask(body, path="/v1/completions")
    assert passed(kong)
    assert sent(kong)["max_tokens"] == 16
    assert 2 * 4 * 16 * 10_000 <= world.room().held < 2 * 4 * 16 * 10_000 + 100 * 1_000


@pytest.mark.parametrize("prompt", ["a", ["a", "b"]])
def test_a_completion_that_says_nothing_of_its_length(prompt: Any) -> None:
    for tenant in ({}, {"budgets": (), "token_limits": ({"name": "t", "limit": 10**6},)}):
        assert passed(World(**tenant).ask({"model": "gpt-4o", "prompt": prompt}, path="/v1/completions"))


def test_a_request_that_is_too_dear_isnt_told_that_all_is_spent() -> None:
    world = World(budgets=({**BUDGET, "on_tight": "refuse"},))
    dear = world.ask(
        {"model": "gpt-4o", "max_tokens": 10**6, "messages": [{"role": "user", "content": "hello"}]}
    )
    assert error(dear) == (429, "budget_exhausted")
    assert dear.exit is not None
    assert "has less left than this request may cost" in dear.exit.json["error"]["message"]
    assert passed(world.ask())


MEMBERS = st.sampled_from(
    "n best_of max_tokens max_completion_tokens thinking tools service_tier plugins audio input prompt user".split()
)
VALUES = st.sampled_from(
    [0, -1, 1.5, 1e300, 10**30, "5", "x", True, None, [], {}, [[1]], [{}], {"a": 1}, {"budget_tokens": 1e300}]
)
BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
    "/v1/responses": {"input": "hello"},
    "/v1/completions": {"prompt": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/v1/images/generations": {"prompt": "hello"},
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(BODIES)), st.dictionaries(MEMBERS, VALUES, min_size=1, max_size=3))
def test_no_member_keeps_a_request_from_being_decided(path: str, members: dict[str, Any]) -> None:
    kong = WORLD.ask({"model": "gpt-4o", **BODIES[path], **members}, path=path)
    assert DECISION in kong.shared or (kong.exit is not None and kong.exit.status < 500)


def test_embeddings_hold_their_texts_alone() -> None:
    world = World()
    kong = world.ask({"model": "gpt-4o", "input": ["one two three", "four"]}, path="/v1/embeddings")
    assert 0 < world.room().held < 200 * 1_000
    world.end(kong, record={"ai": {"proxy": {"usage": {"prompt_tokens": 7}}}})
    assert world.room().used == 7 * 1_000


# -- refusals --------------------------------------------------------------------------------------------


def test_a_budget_that_is_used_up() -> None:
    world = World(budgets=({**BUDGET, "max_budget": 0.001, "on_tight": "admit"},))
    world.end(world.ask(), usage={**USAGE, "counts": {"prompt_tokens": 10, "completion_tokens": 200}})
    kong = world.ask()
    assert error(kong) == (429, "budget_exhausted")
    assert kong.exit is not None
    headers = kong.exit.headers
    assert kong.exit.json["error"]["type"] == "insufficient_quota"
    assert 0 < int(headers["retry-after"]) <= 31 * 86_400 + 3600
    assert headers["x-ai-ratelimit-limit-month-main"] == "0.001"
    assert headers["x-ai-ratelimit-remaining-month-main"] == "0"
    assert json.loads(kong.shared[DECISION]["shared"]["tenantgate_tenant_rate_limits"]) == {
        "refused": True,
        "limit": "tenant",
        "period": "month",
        "budget": "main",
    }
    before = world.room()
    world.end(kong, source="exit", status=429, provider_status=None, sent=False)
    assert world.room() == before


def test_a_budget_that_requests_in_flight_hold() -> None:
    world = World(budgets=({**BUDGET, "max_budget": 0.0015, "on_tight": "refuse"},))
    first = world.ask()
    assert passed(first)
    second = world.ask()
    assert error(second) == (429, "budget_held")
    assert second.exit is not None
    assert 1 <= int(second.exit.headers["retry-after"]) <= 3
    world.end(first, usage=USAGE)
    assert passed(world.ask())


def test_a_limit_on_tokens() -> None:
    world = World(budgets=(), token_limits=({"name": "tokens", "limit": 250, "window": "1m"},))
    kong = world.ask()
    assert kong.shared[DECISION]["headers"]["X-RateLimit-Limit-Tokens"] == "250"
    world.end(kong, usage={**USAGE, "counts": {"prompt_tokens": 50, "completion_tokens": 190}})
    refused = world.ask()
    assert error(refused) == (429, "rate_limit_exceeded")
    assert refused.exit is not None
    assert refused.exit.json["error"]["type"] == "tokens"
    assert 0 < int(refused.exit.headers["retry-after"]) <= 60
    assert refused.exit.headers["x-ai-ratelimit-remaining-minute-tokens"] == "10"


def test_one_call_for_all_limits_all_or_nothing() -> None:
    world = World(
        model(stages={"limits": {"tenant": {"per_day": 2}, "policy": "local"}}),
        budgets=({**BUDGET, "max_budget": 0.0015, "on_tight": "refuse"},),
    )
    assert passed(world.ask())
    assert error(world.ask()) == (429, "budget_held")
    world.change(budgets=())
    kong = world.ask()
    assert kong.shared[DECISION]["headers"] == {
        "X-RateLimit-Limit-Day": "2",
        "X-RateLimit-Remaining-Day": "0",
        "RateLimit-Limit": "2",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": kong.shared[DECISION]["headers"]["RateLimit-Reset"],
    }
    assert error(world.ask()) == (429, "rate_limit_exceeded")


def test_keys_and_end_users_have_counters_of_their_own() -> None:
    limits = (
        {"name": "of-key", "count": "requests", "limit": 1, "window": "1h", "per": "key"},
        {"name": "of-user", "count": "requests", "limit": 1, "window": "1h", "per": "end_user"},
    )
    world = World(budgets=(), token_limits=limits)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    assert passed(world.ask({**body, "user": "ann"}))
    assert error(world.ask({**body, "user": "bob"})) == (429, "rate_limit_exceeded")
    assert error(world.ask({**body, "user": "ann"}, credential="c-2")) == (429, "rate_limit_exceeded")
    assert passed(world.ask({**body, "user": "bob"}, credential="c-2"))
    assert world.room("of-user", end_user_subject("ann")).used == 1
    world.change(end_user_header="X-User")
    headers = {"content-type": "application/json", "x-user": "ann"}
    assert error(world.ask({**body, "user": "cy"}, credential="c-3", headers=headers))[0] == 429


def test_messages_name_their_user_in_their_own_way() -> None:
    limits = ({"name": "of-user", "count": "requests", "limit": 1, "window": "1h", "per": "end_user"},)
    world = World(budgets=(), token_limits=limits)
    body = {"model": "gpt-4o", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    kong = world.ask({**body, "metadata": {"user_id": "ann"}}, path="/v1/messages")
    assert passed(kong)
    assert world.room("of-user", end_user_subject("ann")).used == 1


# -- less than asked for ---------------------------------------------------------------------------------


def test_a_reply_is_shortened_to_what_fits() -> None:
    world = World(budgets=({**BUDGET, "max_budget": 0.005, "min_tokens": 50},))
    kong = world.ask({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4000})
    tokens = sent(kong)["max_tokens"]
    assert 400 < tokens < 500
    assert world.room().held <= 5_000_000
    world.end(kong, usage={**USAGE, "counts": {"prompt_tokens": 10, "completion_tokens": tokens}})
    assert world.room().used <= 5_000_000
    assert error(world.ask())[1] == "budget_exhausted"


def test_a_targets_own_number_is_lowered_too() -> None:
    world = World(
        model(targets=(target(options={"max_tokens": 3000}),)), budgets=({**BUDGET, "max_budget": 0.005},)
    )
    kong = world.ask()
    assert 400 < kong.shared[DECISION]["target"]["options"]["max_tokens"] < 500


def test_a_large_body_is_limited_by_kong() -> None:
    world = World(budgets=({**BUDGET, "max_budget": 5},))
    text = "word " * 250_000
    kong = world.ask({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})
    decision = kong.shared[DECISION]
    assert decision["reply_limit"] == {"names": ["max_completion_tokens"], "tokens": 4096}
    assert "body" not in decision


def test_the_room_for_thoughts_is_kept() -> None:
    own = replace(target("claude", "anthropic"), provider="anthropic")
    anthropic = model("claude", provider="anthropic", targets=(own,))
    world = World(anthropic, budgets=({**BUDGET, "max_budget": 0.005, "min_tokens": 50},))
    body = {"model": "claude", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4000}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert error(world.ask({**body, **thinking}, path="/v1/messages"))[0] == 429
    assert passed(world.ask(body, path="/v1/messages"))


# -- the ladder ------------------------------------------------------------------------------------------

LADDER = {
    **BUDGET,
    "max_budget": 0.01,
    "on_tight": "admit",
    "steps": (
        {"at": "50%", "do": "degrade", "with": {"model": "cheap", "compress": "more"}},
        {"at": "80%", "do": "cache_only"},
        {"at": "100%", "do": "block"},
    ),
}


def spend(world: World, part: float) -> None:
    """Let one request use up so much of the budget of a cent."""
    tokens = int(part * 1000)
    world.end(world.ask(), usage={**USAGE, "counts": {"prompt_tokens": 0, "completion_tokens": tokens}})


def degrading() -> World:
    cheap = model("cheap", targets=(target("cheap", prices=CHEAP),))
    return World(model(), cheap, budgets=(LADDER,))


def test_a_cheaper_model_answers() -> None:
    world = degrading()
    spend(world, 0.5)
    kong = world.ask()
    assert kong.shared[DECISION]["target"]["name"] == "cheap"
    assert sent(kong)["model"] == "cheap"
    assert kong.shared[DECISION]["headers"]["X-Tenantgate-Degraded"] == "main"
    assert world.room().held < 200 * 1_000
    world.end(kong, usage=USAGE)
    assert world.room().used == 5_000_000 + COST // 10


class Counting(LocalLedger):
    """Counts calls on the client's path."""

    calls = 0

    def reserve(self, asked: Reservation) -> Reserved:
        """As the ledger does."""
        self.calls += 1
        return super().reserve(asked)


def test_what_another_process_has_spent_costs_a_second_call_once() -> None:
    ledger = Counting()
    cheap = model("cheap", targets=(target("cheap", prices=CHEAP),))
    world, other = (World(model(), cheap, budgets=(LADDER,), ledger=ledger) for _ in range(2))
    spend(other, 0.6)
    ledger.calls = 0
    kong = world.ask()
    assert kong.shared[DECISION]["target"]["name"] == "cheap"
    assert ledger.calls == 2
    assert world.room().held < 200 * 1_000
    assert world.ask().shared[DECISION]["target"]["name"] == "cheap"
    assert ledger.calls == 4  # one of them is the look at the counter


def test_a_raised_budget_gives_the_next_request_its_own_model_back() -> None:
    world = degrading()
    spend(world, 0.6)
    assert world.ask().shared[DECISION]["target"]["name"] == "cheap"
    world.change(budgets=({**LADDER, "max_budget": 1.0},))
    kong = world.ask()
    assert kong.shared[DECISION]["target"]["name"] == "gpt-4o"
    assert "X-Tenantgate-Degraded" not in kong.shared[DECISION]["headers"]
    world.end(kong, usage=USAGE)
    assert world.room().used == 6_000_000 + COST


def test_only_the_cache_answers_then_nobody() -> None:
    world = degrading()
    spend(world, 0.9)
    kong = world.ask()
    assert error(kong) == (429, "budget_exhausted")
    assert kong.exit is not None
    assert int(kong.exit.headers["retry-after"]) > 0
    world.end(kong, source="exit", status=429, provider_status=None, sent=False)
    assert (world.room().used, world.room().held) == (9_000_000, 0)


def test_a_step_that_blocks_before_the_end() -> None:
    steps = ({"at": "50%", "do": "block"},)
    world = World(budgets=({**BUDGET, "max_budget": 0.01, "on_tight": "admit", "steps": steps},))
    spend(world, 0.5)
    assert error(world.ask()) == (429, "budget_exhausted")
    assert world.room().held == 0


# -- without Redis ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "status"), [("open", None), ("closed", 503), ("lease", 503)])
def test_a_ledger_that_cannot_be_asked(rule: str, status: int | None) -> None:
    kong = World(ledger=Gone(), budgets=({**BUDGET, "on_store_down": rule},)).ask()
    assert (kong.exit and kong.exit.status) == status
    if status is None:
        assert "headers" not in kong.shared[DECISION]
        assert kong.shared[DECISION]["state"]["limits"]["held"]


def test_shadow_limits_never_refuse_and_are_not_told() -> None:
    world = World(budgets=({**BUDGET, "max_budget": 0.0001, "mode": "shadow"},))
    kong = world.ask()
    assert passed(kong)
    assert "headers" not in kong.shared[DECISION]
    world.end(kong, usage=USAGE)
    assert world.room().used == COST
