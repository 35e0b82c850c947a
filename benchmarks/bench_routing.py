"""What the order of a request's targets takes: ``bench_routing.py [--rounds N]``.

Microseconds of processor time of the calling thread for one order, the lowest of five runs: targets with a provider's
limits, 256 tenants that use them, and in `switches` a hundred switches of other targets. Log phases aren't counted.
"""

from __future__ import annotations

import argparse
import sys
import time
import timeit

from tenantgate.llm.chat import ChatRequest
from tenantgate.policy.core.records import ModelPolicy, Routing, Target
from tenantgate.routing.core.balance import ALGORITHMS
from tenantgate.routing.core.share import Use
from tenantgate.routing.core.switches import Switch
from tenantgate.routing.in_flight import InFlight
from tenantgate.routing.registry import Registry
from tenantgate.routing.service import Attempt, Router
from tenantgate.routing.stored import sealer
from tenantgate.tenant import TenantId

TENANT = TenantId("tenant-0")
TOLD = {
    "x-ratelimit-remaining-requests": "100",
    "x-ratelimit-limit-requests": "100000",
    "x-ratelimit-reset-requests": "60s",
}


def measured(balance: str, targets: int, characters: int, switches: int, rounds: int) -> float:
    """Microseconds of one order."""
    router = Router(Registry(None, sealer("k" * 32)), InFlight(None))
    names = [f"provider-{n}/model" for n in range(targets)]
    routing = Routing(balance=balance)
    model = ModelPolicy(
        provider="tenantgate",
        model="smart",
        route_name="llm.tenantgate.smart.tenant",
        targets=tuple(
            Target(provider="openai", name="model", id=name, credential=f"{{vault://env/K{i}}}")
            for i, name in enumerate(names)
        ),
        routing=routing,
    )
    route = router.route(model, routing)
    now = time.time()
    for place in route.places:
        for n in range(256):
            router.registry.use(place.deployment, f"tenant-{n}", Use(100, 1), now)
    router.ended(route, [Attempt(name, "ok", 100, TOLD) for name in names], {})
    others = (
        Switch(scope=f"other-{n}", drained=True, reason="r", by="b", created=now) for n in range(switches)
    )
    router.registry.go_by({switch.scope: switch for switch in others})
    messages = ({"role": "system", "content": "x" * characters}, {"role": "user", "content": "Hi"})
    request = ChatRequest({"model": "smart", "messages": list(messages)}, messages)

    def order() -> None:
        router.choose(route, TENANT, request, headers={}, size=characters)

    runs = timeit.repeat(order, number=rounds, repeat=5, timer=time.thread_time)
    return min(runs) / rounds * 1e6


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=1000, metavar="N")
    rounds = parser.parse_args().rounds
    cases = [(2, 200, 0), (5, 200, 0), (5, 20_000, 0), (5, 200, 100)]
    print("balance             " + "".join(f"{t} targets, {c} ch., {s} sw.".rjust(30) for t, c, s in cases))
    for balance in ALGORITHMS:
        found = [measured(balance, *case, rounds) for case in cases]
        print(balance.ljust(20) + "".join(f"{us:.0f} us".rjust(30) for us in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
