"""The reference platform is what its document says: schemathesis makes requests of that, and judges the answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings

from platform_rig import TOKEN, Platform, budget, requests_limit
from tenantgate.platform.document import document

OPERATIONS: Final = [(path, method) for path, methods in document()["paths"].items() for method in methods]
HEADERS: Final = {"Authorization": f"Bearer {TOKEN}"}
EVENT: Final = {
    "specversion": "1.0",
    "source": "/tenantgate/nodes/a",
    "subject": "t1",
    "time": "2026-11-29T16:10:01.000Z",
}


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    running = Platform()
    running.put(
        *({"id": f"t{i}", "budgets": [budget()], "token_limits": [requests_limit()]} for i in range(150))
    )
    kinds = ("tenantgate.usage.v1", "tenantgate.correction.v1")
    data = {"model": "m", "provider": "p", "cost": {"exact": "0.1", "currency": "USD"}}
    running.send([{**EVENT, "id": f"{k}{i}", "type": k, "data": data} for k in kinds for i in range(3)])
    runs = [{"from": 1, "to": 3}, {"from": 7, "to": 9}]
    running.send(
        [{**EVENT, "id": f"w{i}", "type": "tenantgate.watermark.v1", "data": r} for i, r in enumerate(runs)]
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def api() -> Any:
    import schemathesis

    return schemathesis.openapi.from_dict(document())


def check(api: Any, platform: Platform, path: str, method: str, *, valid: bool, examples: int) -> None:
    """Requests of the document, or (not `valid`) such as it forbids."""
    from schemathesis import GenerationMode

    mode = GenerationMode.POSITIVE if valid else GenerationMode.NEGATIVE

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(case=api[path][method.upper()].as_strategy(generation_mode=mode))
    def law(case: Any) -> None:
        case.call_and_validate(base_url=platform.url, headers=HEADERS)

    law()


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_the_document_says(
    api: Any, platform: Platform, path: str, method: str, valid: bool
) -> None:
    check(api, platform, path, method, valid=valid, examples=6)


@pytest.mark.slow
@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_many_answers_are_as_the_document_says(
    api: Any, platform: Platform, path: str, method: str, valid: bool
) -> None:
    check(api, platform, path, method, valid=valid, examples=300)
