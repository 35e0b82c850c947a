"""Lines of a route that all tenants share: settings by the line, else by the tenant's last one, else none at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit_rig import KEY, Rig, journal_line, kong_record, only, request_id, sound
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.routes import NO_AUDIT
from tenantgate.audit.messages import Content, Settings

ENGINE = "route-engine"
NAME = "llm.openai.gpt-4o.acme"


def settings(rig: Rig, name: str, **values: Any) -> None:
    """Settings that no route has."""
    rig.send(Settings(name, "", {"encryption_key": KEY, "pipeline": rig.plain, **values}))


def line(number: int, *, policy: str | None = "p", tenant: str | None = "acme", **changes: Any) -> bytes:
    """A line of the shared route; `policy` None: no engine saw the request."""
    shared = (
        {}
        if policy is None
        else {"tenantgate__policy": policy, "tenantgate__route": f"llm.openai.gpt-4o.{tenant}"}
    )
    return journal_line(number, tenant=tenant, route={"id": ENGINE, "name": "llm"}, **{**shared, **changes})


def test_a_line_names_its_settings_and_its_route(rig: Rig) -> None:
    settings(rig, "p", client_ip="keep", input_cost=2.5, output_cost=10, content="off")
    settings(rig, "q", content="off")
    rig.write(line(1), line(2, policy="q", tenant="globex"))
    rig.step()
    one, two = rig.records()
    assert one["route"] == {"id": ENGINE, "name": NAME}
    assert (one["client"], one["cost"]["amount"]) == ({"address": "203.0.113.9"}, 0.00075)
    assert set(two["client"]) == {"address_hash"}
    assert "cost" not in two
    assert one["content"] == {"state": "off"}


def test_the_limits_verdict_is_kept(rig: Rig) -> None:
    settings(rig, "p", content="off")
    rig.write(
        line(
            1,
            tenantgate__limits='{"action":"refuse","limit":"requests"}',
            response__status=429,
            source="kong",
        )
    )
    rig.step()
    record = only(rig)
    assert record["verdicts"]["limits"] == {"action": "refuse", "limit": "requests"}
    assert record["outcome"] == "rate_limited"


def test_a_tenant_without_an_audit_log_makes_no_record_and_stops_no_other(rig: Rig) -> None:
    settings(rig, "p", content="off")
    rig.step()
    rig.write(
        line(1, policy=NO_AUDIT, tenant="globex"), line(2), line(3, policy=None, tenant="globex"), line(4)
    )
    rig.step()
    sound_ids = rig.ids()
    assert sound_ids == [2, 4], "nor where no engine saw its request"
    rig.kill()
    rig.write(line(5, policy=None, tenant="globex"))
    settings(rig, "p", content="off")
    rig.step(times=2)
    assert rig.ids() == [2, 4]


@pytest.mark.parametrize("restart", [False, True])
def test_where_no_engine_saw_a_request_the_tenant_s_last_settings_hold(rig: Rig, restart: bool) -> None:
    for name in ("p", "q"):
        settings(
            rig,
            name,
            client_ip="keep" if name == "q" else "remove",
            input_cost=2.5,
            output_cost=10,
            content="off",
        )
    rig.write(line(1), line(2, policy="q"))
    rig.step()
    rig.step(after_s=2)
    if restart:
        rig.kill()
        settings(rig, "q", client_ip="keep", input_cost=2.5, output_cost=10, content="off")
        rig.step()
    rig.write(line(3, policy=None))
    rig.step()
    record = rig.records()[-1]
    assert record["client"] == {"address": "203.0.113.9"}
    assert "cost" not in record, "the prices may be those of another model"
    assert record["content"] == {"state": "off"}
    assert record["route"]["name"] == "llm"


@pytest.mark.parametrize("why", ["never_seen", "settings_unknown", "name_unknown", "no_consumer"])
def test_where_no_settings_are_known_a_record_has_metadata_only(rig: Rig, why: str) -> None:
    settings(rig, "p", client_ip="keep", input_cost=2.5, output_cost=10)
    rig.write(line(1))
    rig.content(1, "hello")
    rig.step()
    rig.step(after_s=2)
    if why == "settings_unknown":
        rig.kill()
    number = 2
    if why == "name_unknown":
        rig.send(
            Content("never", request_id(number), RawContent(b'{"messages":[]}', 15, None, 0, {"x-user": "u"}))
        )
    rig.write(
        line(
            number,
            policy="never" if why == "name_unknown" else None,
            tenant={"never_seen": "globex", "no_consumer": None}.get(why, "acme"),
            **({"response__status": 401, "source": "kong", "tries": []} if why == "no_consumer" else {}),
        )
    )
    rig.step()
    rig.step(after_s=2.1)
    record = rig.records()[-1]
    assert int(record["id"], 16) == number
    assert (record["client"], "cost" in record, set(record["content"])) == ({}, False, {"state"})
    assert record["tenant"] == {"never_seen": "globex", "no_consumer": "~unknown"}.get(why, "acme")


def test_content_comes_under_the_settings_that_it_was_taken_under(rig: Rig) -> None:
    settings(rig, "p")
    settings(rig, "q", content="hashed")
    for number, policy in ((1, "p"), (2, "q")):
        raw = kong_record(number)  # any JSON with messages
        raw["messages"] = [{"role": "user", "content": "What is a sextant?"}]
        body = json.dumps(raw).encode()
        rig.send(Content(policy, request_id(number), RawContent(body, len(body), None, 0, {})))
    rig.write(line(1), line(2, policy="q"))
    rig.step()
    assert [r["content"]["state"] for r in rig.records()] == ["kept", "hashed"]
    assert b"sextant" not in rig.spool.entries[1].record


def test_a_tenant_s_settings_of_the_engine_say_nothing_of_an_attached_plugin_s_route(rig: Rig) -> None:
    settings(rig, "p", content="off")
    rig.write(line(1, policy=NO_AUDIT))
    rig.step()
    rig.write(journal_line(2))  # before the plugin's settings of that route are there
    rig.step()
    rig.step(after_s=2.1)
    assert rig.ids() == [2]
    rig.policy(content="off")
    rig.write(journal_line(3))
    rig.step()
    sound(rig, range(2, 4))


def test_no_position_is_noted_before_what_its_lines_have_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    settings(rig, "p", content="off")
    rig.write(line(1, policy=NO_AUDIT), line(2, tenant="globex"))
    with monkeypatch.context() as patched:
        patched.setattr("tenantgate.audit.worker.write_whole", full)
        rig.step(after_s=2, times=2)
    assert rig.ids() == [2]
    rig.kill()
    settings(rig, "p", content="off")
    rig.write(line(3, policy=None), line(4, policy=None, tenant="globex"))
    rig.step(times=2)
    assert rig.ids() == [2, 4]


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b'{"routes":1,"tenants":{}}', b'{"routes":[],"tenants":{"":"p"}}']
)
def test_a_damaged_file_of_tenants_is_as_none(rig: Rig, damage: bytes) -> None:
    (rig.folder / "tenants.json").write_bytes(damage)
    settings(rig, "p", content="off")
    rig.write(line(1), line(2, policy=None))
    rig.step()
    assert rig.ids() == [1, 2]
    rig.step(after_s=2)
    assert json.loads((rig.folder / "tenants.json").read_bytes()) == {
        "routes": [ENGINE],
        "tenants": {"acme": "p"},
    }
    assert KEY.encode() not in (rig.folder / "tenants.json").read_bytes()
