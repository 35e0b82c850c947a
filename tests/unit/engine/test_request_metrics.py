"""Requests as metrics."""

from __future__ import annotations

import pytest

from tenantgate.engine.core.tables import PackedLog
from tenantgate.engine.request_metrics import count_request
from tenantgate.telemetry import metrics

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def ended(tenant: str, status: int, traceparent: str = "", took_ms: int = 250) -> PackedLog:
    table = {
        "request": {"tenant": tenant, "id": "1"},
        "status": status,
        "took_ms": took_ms,
        "traceparent": traceparent,
    }
    packed = PackedLog.of(table)
    assert packed is not None
    return packed


def lines(tenant: str) -> list[str]:
    found = metrics.exposition(openmetrics=True).splitlines()
    return [line for line in found if line.startswith("tenantgate_llm_request") and f'"{tenant}"' in line]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (304, "ok"),
        (400, "refused"),
        (429, "refused"),
        (499, "client_gone"),
        (500, "error"),
        (0, "error"),
    ],
)
def test_a_request_counts_by_how_it_ended(status: int, outcome: str) -> None:
    tenant = f"ended-{status}"
    count_request(ended(tenant, status))
    assert f'tenantgate_llm_requests_total{{tenant="{tenant}",outcome="{outcome}"}} 1' in lines(tenant)
    timed = [line for line in lines(tenant) if "_seconds_count" in line]
    assert timed == (
        [f'tenantgate_llm_request_seconds_count{{tenant="{tenant}"}} 1'] if outcome == "ok" else []
    )


@pytest.mark.parametrize(
    ("traceparent", "told"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", True),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        ("", False),
        (f"00-{TRACE}-00f067aa0ba902b7-01; DROP", False),
    ],
)
def test_its_trace_is_an_exemplar(traceparent: str, told: bool) -> None:
    tenant = f"traced-{len(traceparent)}-{told}"
    count_request(ended(tenant, 200, traceparent))
    found = [line for line in lines(tenant) if "# {" in line]
    assert bool(found) is told
    assert all(f'trace_id="{TRACE}"' in line and 'le="0.25"' in line for line in found)
