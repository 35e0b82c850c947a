"""Routing by a router without Redis: orders in access, what tries teach in log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tenantgate.llm.chat import ChatRequest
from tenantgate.policy.core.records import ModelPolicy, Routing, Target
from tenantgate.routing.core.balance import ALGORITHMS
from tenantgate.routing.core.order import Why
from tenantgate.routing.core.share import Use
from tenantgate.routing.core.switches import Switch
from tenantgate.routing.in_flight import InFlight
from tenantgate.routing.registry import Deployment, Registry
from tenantgate.routing.service import Attempt, Choice, Route, Router
from tenantgate.routing.stored import sealer
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
KEYS = sealer("k" * 32)


class World:
    """A router with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0 - 1_800_000_000.0 % 60
        self.registry = Registry(None, KEYS, clock=lambda: self.now)
        self.router = Router(self.registry, InFlight(None), clock=lambda: self.now)

    def route(
        self, *names: str, targets: Mapping[str, Mapping[str, Any]] | None = None, **routing: Any
    ) -> Route:
        made = tuple(
            Target(
                provider="openai",
                name=name.partition("/")[2],
                id=name,
                credential=f"{{vault://env/{name}}}",
                **(targets or {}).get(name, {}),
            )
            for name in names or ("openai/a", "openai/b")
        )
        terms = Routing(**routing)
        policy = ModelPolicy(
            provider="tenantgate", model="smart", route_name="r", targets=made, routing=terms
        )
        return self.router.route(policy, terms)

    def choose(self, route: Route, text: str = "hi", tenant: TenantId = ACME, **more: Any) -> Choice:
        members = {k: v for k, v in more.items() if k not in ("headers", "size", "weight")}
        messages = ({"role": "user", "content": text},)
        request = ChatRequest({"model": "smart", "messages": list(messages), **members}, messages)
        return self.router.choose(
            route,
            tenant,
            request,
            headers=more.get("headers", {}),
            size=more.get("size", 100),
            weight=more.get("weight", 100),
        )

    def order(self, route: Route, *args: Any, **more: Any) -> list[str]:
        return [target.id for target in self.choose(route, *args, **more).targets]

    def end(self, route: Route, *tries: tuple[str, str], choice: Choice | None = None, **limits: str) -> None:
        named = {name.replace("_", "-"): value for name, value in limits.items()}
        attempts = [Attempt(target, outcome, 200, named) for target, outcome in tries]
        self.router.ended(route, attempts, {} if choice is None else choice.state)


@pytest.fixture
def world() -> World:
    return World()


def test_a_failing_target_is_left_out_and_tried_again_by_one_request(world: World) -> None:
    route = world.route()
    assert world.order(route) == ["openai/a", "openai/b"]
    for _ in range(3):
        world.end(route, ("openai/a", "http_500"), ("openai/b", "ok"))
    assert world.order(route) == ["openai/b", "openai/a"]
    world.now += 13
    probing = world.choose(route)
    assert [t.id for t in probing.targets] == ["openai/a", "openai/b"]
    assert world.order(route) == ["openai/b", "openai/a"]  # another one waits for it
    world.end(route, ("openai/a", "ok"), choice=probing)
    assert world.order(route) == ["openai/a", "openai/b"]


def test_a_probe_that_fails_and_one_whose_end_is_never_heard(world: World) -> None:
    route = world.route(non_streaming_total_ms=60_000)
    for _ in range(3):
        world.end(route, ("openai/a", "error"))
    world.now += 13
    world.end(route, ("openai/a", "error"), choice=world.choose(route))
    assert world.order(route) == ["openai/b", "openai/a"]
    world.now += 13
    assert world.order(route) == ["openai/a", "openai/b"]
    world.now += 29
    assert world.order(route) == ["openai/b", "openai/a"]
    world.now += 2
    assert world.order(route) == ["openai/a", "openai/b"]


def test_of_two_threads_one_probes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    route = world.route()
    for _ in range(3):
        world.end(route, ("openai/a", "error"))
    world.now += 13
    may_probe = world.registry.may_probe
    asked: list[bool] = []

    def both_may(deployment: Deployment, now: float) -> bool:
        asked.append(may_probe(deployment, now))
        return len(asked) <= 2 or asked[-1]  # as if both had asked before either began

    monkeypatch.setattr(world.registry, "may_probe", both_may)
    assert [world.order(route), world.order(route)] == [["openai/a", "openai/b"], ["openai/b", "openai/a"]]


def test_a_probe_that_says_nothing_is_followed_by_another(world: World) -> None:
    route = world.route()
    for _ in range(3):
        world.end(route, ("openai/a", "error"))
    world.now += 13
    world.end(route, ("openai/a", "http_400"), choice=world.choose(route))
    assert world.order(route) == ["openai/a", "openai/b"]


def test_errors_of_one_client_leave_nobodys_targets_out(world: World) -> None:
    route = world.route()
    for outcome in ["http_400", "http_404", "http_422", "context_length", "refused"] * 20:
        world.end(route, ("openai/a", outcome))
    assert world.order(route) == ["openai/a", "openai/b"]


def test_refusals_by_403_are_failures_like_others_and_the_third_is_told(world: World) -> None:
    """One client's prompts may be what the provider refuses."""
    route = world.route()
    for _ in range(20):
        world.end(route, ("openai/a", "http_403"))
        world.end(route, ("openai/a", "http_403"))
        world.end(route, ("openai/a", "ok"))
    assert world.order(route) == ["openai/a", "openai/b"]
    assert [*world.registry._events] == []
    for _ in range(4):
        world.end(route, ("openai/a", "http_403"))
    assert world.order(route) == ["openai/b", "openai/a"]
    assert [e["event"] for e in world.registry._events] == ["credential_refused"]


def test_tenants_share_the_health_of_the_same_deployment_only(world: World) -> None:
    other = {"openai/a": {"options": {"upstream_url": "https://elsewhere.example"}}}
    route, same, elsewhere = world.route(), world.route(), world.route(targets=other)
    for _ in range(3):
        world.end(route, ("openai/a", "timeout"))
    assert world.order(same, tenant=GLOBEX) == ["openai/b", "openai/a"]
    assert world.order(elsewhere, tenant=GLOBEX) == ["openai/a", "openai/b"]


def test_another_configuration_resets_nothing(world: World) -> None:
    for _ in range(3):
        world.end(world.route(), ("openai/a", "timeout"))
    changed = world.route(targets={"openai/a": {"weight": 7, "options": {"temperature": 0.3}}}, max_fails=2)
    assert world.order(changed) == ["openai/b", "openai/a"]


def test_a_refused_credential_leaves_its_target_out_at_once(world: World) -> None:
    route = world.route("openai/a", "openai/a#2")
    world.end(route, ("openai/a", "http_401"), ("openai/a#2", "ok"))
    assert world.order(route) == ["openai/a#2", "openai/a"]
    assert [(e["event"], e["model"]) for e in world.registry._events] == [("credential_refused", "a")]


def test_all_out_is_tried_by_a_few_and_refused_for_others(world: World) -> None:
    route = world.route()
    for name in ("openai/b", "openai/a"):
        for _ in range(3):
            world.end(route, (name, "timeout"))
        world.now += 3  # more than what jitter makes of ten seconds
    tried = [world.choose(route) for _ in range(4)]
    assert {(c.why, c.targets[0].id, len(c.targets)) for c in tried} == {(Why.LAST_RESORT, "openai/b", 1)}
    assert all(4 <= c.wait_s <= 7 for c in tried)
    refused = world.choose(route)
    assert (refused.why, refused.targets) == (Why.ALL_OUT, ())
    assert refused.wait_s == tried[0].wait_s
    world.end(route, ("openai/b", "timeout"), choice=tried[0])
    assert world.choose(route).why is Why.LAST_RESORT


def test_a_provider_that_asks_to_wait_isnt_tried_even_as_the_last(world: World) -> None:
    route = world.route("openai/a")
    world.end(route, ("openai/a", "http_429"), retry_after="20")
    refused = world.choose(route)
    assert (refused.why, refused.wait_s) == (Why.ALL_OUT, 20)
    world.now += 20
    assert world.choose(route).why is Why.HEALTHY


def test_a_target_near_its_limit_is_left_for_last(world: World) -> None:
    route = world.route()
    told = {"x_ratelimit_remaining_requests": "2", "x_ratelimit_reset_requests": "30s"}
    world.end(route, ("openai/a", "ok"), **told)
    assert [world.order(route)[0] for _ in range(4)] == ["openai/a", "openai/a", "openai/b", "openai/b"]
    assert world.order(route) == ["openai/b", "openai/a"]
    world.now += 30
    assert world.order(route)[0] == "openai/a"


def test_a_request_that_needs_more_tokens_than_are_left_goes_elsewhere(world: World) -> None:
    route = world.route()
    world.end(route, ("openai/a", "ok"), anthropic_ratelimit_tokens_remaining="2000")
    assert world.order(route, size=4 * 1600, max_tokens=1000)[0] == "openai/b"
    assert world.order(route, size=4 * 1600, max_tokens=100)[0] == "openai/a"


def test_a_greedy_tenant_leaves_a_shared_deployment_to_the_other(world: World) -> None:
    route = world.route("openai/a")
    left = 100

    def asks(tenant: TenantId) -> bool:
        nonlocal left
        choice = world.choose(route, tenant=tenant)
        if not choice.targets:
            assert (choice.why, choice.wait_s) == (Why.OVER_SHARE, 60)
            return False
        left -= 1
        told = {"x_ratelimit_remaining_requests": str(left), "x_ratelimit_limit_requests": "100"}
        world.end(route, ("openai/a", "ok"), choice=choice, x_ratelimit_reset_requests="60s", **told)
        return True

    asks(GLOBEX)
    assert sum(asks(ACME) for _ in range(200)) == 50
    assert all(asks(GLOBEX) for _ in range(40))


def test_shares_follow_the_tenants_weights(world: World) -> None:
    route = world.route("openai/a")
    for tenant, weight, requests in ((ACME, 300, 60), (GLOBEX, 100, 30)):
        world.registry.use(route.places[0].deployment, tenant.slug, Use(weight, requests), world.now)
    told = {"x_ratelimit_remaining_requests": "30", "x_ratelimit_reset_requests": "60s"}
    world.end(route, ("openai/a", "ok"), **told)
    assert world.choose(route, tenant=ACME, weight=300).why is Why.HEALTHY
    assert world.choose(route, tenant=GLOBEX, weight=100).why is Why.OVER_SHARE
    assert world.choose(route, tenant=GLOBEX, weight=300).why is Why.HEALTHY


def test_tries_and_circuits_are_counted(world: World) -> None:
    route = world.route("counted/a", "counted/b")
    for _ in range(3):
        world.end(route, ("counted/a", "http_500"), ("counted/b", "ok"))
    digest = route.places[0].deployment.digest[:8]
    text = metrics.exposition()
    for line in (
        'tenantgate_routing_tries_total{provider="counted",model="a",outcome="http_500"} 3',
        'tenantgate_routing_failovers_total{provider="counted",model="a",outcome="http_500"} 3',
        'tenantgate_routing_first_byte_seconds_count{provider="counted",model="b"} 3',
        f'tenantgate_routing_circuit_open{{provider="counted",model="a",deployment="{digest}"}} 1',
    ):
        assert line in text
    assert "vault" not in text
    world.end(route, ("counted/a", "ok"))
    assert f'model="a",deployment="{digest}"}} 0' in metrics.exposition()


def test_drained_targets_get_nothing(world: World) -> None:
    route = world.route()
    drain(world, Switch(scope="openai/a", drained=True, reason="r", by="ann", created=1.0))
    assert world.order(route) == ["openai/b"]
    drain(world, Switch(scope="openai", tenant="globex", drained=True, reason="r", by="ann", created=2.0))
    refused = world.choose(route, tenant=GLOBEX)
    assert (refused.why, refused.targets, refused.wait_s) == (Why.DRAINED, (), 30)
    assert world.order(route) == ["openai/b"]


def drain(world: World, switch: Switch) -> None:
    known = {str(n): s for n, s in enumerate(world.registry.switches)}
    world.registry.go_by({**known, "new": switch})


def test_a_model_with_one_target_can_be_drained_too(world: World) -> None:
    policy = ModelPolicy(
        provider="openai", model="a", route_name="r", targets=(Target(provider="openai", name="a"),)
    )
    assert world.router.drained(ACME, policy) is None
    drain(
        world, Switch(scope="openai/a", drained=True, reason="r", by="ann", created=1.0, until=world.now + 9)
    )
    refused = world.router.drained(ACME, policy)
    assert refused is not None
    assert (refused.why, refused.wait_s) == (Why.DRAINED, 9)


def test_a_conversation_stays_where_it_is(world: World) -> None:
    route = world.route(balance="consistent-hashing")
    first = {text: world.order(route, text)[0] for text in map(str, range(100))}
    assert {world.order(route, text)[0] == where for text, where in first.items()} == {True}
    assert 30 < Counter(first.values())["openai/a"] < 70
    assert any(world.order(route, text, tenant=GLOBEX)[0] != where for text, where in first.items())


def test_a_header_can_decide(world: World) -> None:
    route = world.route(balance="consistent-hashing", hash_on_header="X-Session")
    for n in range(20):
        header = {"x-session": f"s{n}" if n % 2 else [f"s{n}", "other"]}
        assert len({world.order(route, str(t), headers=header)[0] for t in range(10)}) == 1


def test_requests_in_flight_end_with_their_log_phase(world: World) -> None:
    route = world.route(balance="least-busy")
    choices = [world.choose(route, str(n)) for n in range(10)]
    assert Counter(c.targets[0].id for c in choices) == {"openai/a": 5, "openai/b": 5}
    for choice in choices:
        if choice.targets[0].id == "openai/a":
            world.end(route, ("openai/a", "ok"), choice=choice)
    assert [world.choose(route, str(n)).targets[0].id for n in range(5)] == ["openai/a"] * 5


def test_the_fastest_is_taken_by_kind_of_reply(world: World) -> None:
    route = world.route(balance="lowest-latency")
    for target, ms, stream in [("a", 100, 1), ("b", 900, 1), ("a", 5000, 0), ("b", 1000, 0)]:
        world.router.ended(route, [Attempt(f"openai/{target}", "ok", ms, {})], {"streamed": stream})
    assert world.order(route, stream=True)[0] == "openai/a"
    assert world.order(route)[0] == "openai/b"


@pytest.mark.parametrize("balance", sorted(ALGORITHMS))
def test_providers_that_fail_in_turn_cost_no_request(world: World, balance: str) -> None:
    """Five requests a second, each with one further try; each of four providers is gone for thirty seconds."""
    names = [f"openai/{name}" for name in "abcd"]
    route = world.route(*names, balance=balance, retries=1)
    asked: Counter[str] = Counter()
    for n in range(600):
        world.now += 0.2
        gone = names[n // 150]
        choice = world.choose(route, str(n % 97))
        tries = []
        for target in choice.targets[:2]:
            tries.append((target.id, "error" if target.id == gone else "ok"))
            asked[tries[-1][1]] += 1
            if target.id != gone:
                break
        assert tries[-1][1] == "ok"
        world.end(route, *tries, choice=choice)
    # Three each until it is left out, and a try every ten seconds and more.
    assert 3 <= asked["error"] <= 4 * (3 + 3)
