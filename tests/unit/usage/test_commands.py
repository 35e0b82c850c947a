"""``tenantgate usage`` and ``reconcile``: what they print, write, and their exit status."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tenantgate.audit.core.chain import START, link
from tenantgate.audit.files import FileSpool
from tenantgate.cli import main
from tenantgate.tenant import TenantId
from usage_rig import chained, record

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: object) -> tuple[int, str, str]:
        status = main([str(one) for one in argv])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def written(path: Path, found: Iterable[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in chained(found)))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    found = [
        record(1, time="2026-10-31T22:30:00Z"),
        record(2, time="2026-10-31T23:30:00Z", key={"id": "key-2"}),
        record(3, tenant="globex", gen_ai__request={"model": "=evil"}),
        record(4, time="2026-11-30T23:30:00Z"),
    ]
    return written(tmp_path / "audit.jsonl", found)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        ((), 4),
        (("--month", "2026-11"), 2),
        (("--month", "2026-11", "--timezone", "Europe/Berlin"), 2),
        (("--month", "2026-10", "--timezone", "Europe/Berlin"), 1),
        (("--tenant", "globex"), 1),
        (("--key", "key-2"), 1),
        (("--since", "2026-11-01", "--until", "2026-11-30"), 1),
        (("--since", "2026-11-01", "--timezone", "Europe/Berlin"), 3),
        (("--end-user", "ab" * 16), 4),
        (("--tenant", "nobody"), 0),
    ],
)
def test_what_is_counted(run: Run, log: Path, options: tuple[str, ...], requests: int) -> None:
    status, out, _ = run("usage", "--records", log, "--by", "tenant,day", "--format", "json", *options)
    assert (status, json.loads(out)["total"]["requests"]) == (0, requests)


@pytest.mark.parametrize(
    ("form", "start"),
    [("table", "tenant"), ("csv", "tenant,"), ("json", "{"), ("svg", "<svg "), ("html", "<!doctype html>")],
)
def test_each_format(run: Run, log: Path, tmp_path: Path, form: str, start: str) -> None:
    out = tmp_path / "out"
    assert run("usage", "--records", log, "--format", form, "-o", out)[0] == 0
    assert out.read_text("utf-8").startswith(start)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--by", "colour"), "--by"),
        (("--timezone", "Mars/Olympus"), "--timezone"),
        (("--month", "May"), "--month"),
        (("--since", "soon"), "--since"),
    ],
)
def test_bad_options_are_named(run: Run, log: Path, options: tuple[str, ...], told: str) -> None:
    status, _, err = run("usage", "--records", log, *options)
    assert status == 2
    assert told in err


def test_the_same_record_from_two_sinks_counts_once_and_another_one_under_its_id_is_a_fault(
    run: Run, log: Path, tmp_path: Path
) -> None:
    status, out, _ = run("usage", "--records", log, "--records", log, "--format", "json")
    assert (status, json.loads(out)["total"]["requests"]) == (0, 4)
    other = written(tmp_path / "other.jsonl", [record(1, cost={"exact": "5"})])
    status, _, err = run("usage", "--records", log, "--records", other)
    assert status == 1
    assert "different entries" in err


def test_a_statement_is_signed_and_its_tenant_can_check_it(
    run: Run, log: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    out = tmp_path / "acme.json"
    assert (
        run(
            "usage", "statement", "acme", "--records", log, "--month", "2026-11", "--key", private, "-o", out
        )[0]
        == 0
    )
    assert "Statement of usage: acme, 2026-11 (UTC)" in out.with_suffix(".txt").read_text()
    own = tmp_path / "own.jsonl"
    own.write_bytes(b"".join(line + b"\n" for line in log.read_bytes().splitlines() if b'"acme"' in line))
    check = ("usage", "verify", out, "--public-key", public, "--records")
    status, text, _ = run(*check, own)
    assert (status, text.startswith("sound: acme, 2026-11, issued 20")) == (0, True)
    other = Ed25519PrivateKey.generate().public_key()
    (tmp_path / "other.pub").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    status, text, _ = run("usage", "verify", out, "--public-key", tmp_path / "other.pub", "--records", own)
    assert (status, "signature" in text) == (1, True)
    own.write_bytes(own.read_bytes().replace(b"0.0001234", b"0.0009234", 1))
    status, text, _ = run(*check, own)
    assert status == 1
    assert "altered" in text
    out.write_text(out.read_text().replace('"requests": 1', '"requests": 2', 1))
    status, text, _ = run(*check, own)
    assert status == 1
    assert "signature" in text


def test_no_statement_over_records_that_were_changed(run: Run, log: Path, keys: tuple[Path, Path]) -> None:
    log.write_bytes(log.read_bytes().replace(b"0.0001234", b"0.0009234", 1))
    status, _, err = run(
        "usage", "statement", "acme", "--records", log, "--month", "2026-11", "--key", keys[0]
    )
    assert status == 2
    assert "aren't sound" in err


def test_a_key_from_the_environment(
    run: Run, log: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        "usage",
        "statement",
        "acme",
        "--records",
        log,
        "--month",
        "2026-11",
        "--key",
        "{vault://env/sign-key}",
    )
    status, _, err = run(*command)
    assert (status, "SIGN_KEY" in err) == (2, True)
    monkeypatch.setenv("SIGN_KEY", keys[0].read_text())
    assert run(*command)[0] == 0
    monkeypatch.setenv("SIGN_KEY", "secret-but-no-key")
    status, _, err = run(*command)
    assert (status, "secret-but" in err) == (2, False)


def test_ledgers_that_agree_and_one_that_drifts_is_corrected_once(
    run: Run, log: Path, tmp_path: Path
) -> None:
    ledger, corrections, metrics = (
        tmp_path / "ledger.csv",
        tmp_path / "corrections.jsonl",
        tmp_path / "m.prom",
    )
    rows = [
        "tenant,model,day,cost",
        "acme,gpt-4o,2026-10-31,0.0002468",
        "globex,=evil,2026-11-05,0.0001234",
        "acme,gpt-4o,2026-11-30,0.0001234",
    ]
    ledger.write_text("\n".join(rows))
    command = ("reconcile", "--records", log, "--ledger", ledger)
    status, out, _ = run(*command, "--metrics", metrics)
    assert (status, "3 agrees" in out) == (0, True)
    assert "tenantgate_reconcile_drift_ratio" in metrics.read_text()
    ledger.write_text("\n".join([*rows[:-1], "acme,gpt-4o,2026-11-30,0.5"]))
    status, out, _ = run(*command)
    assert (status, "drift" in out) == (1, True)
    for made in (1, 0):
        _, out, _ = run(*command, "--corrections", corrections)
        assert f"{made} corrections" in out
    assert run(*command, "--corrections", corrections)[0] == 0
    _, out, _ = run("usage", "--records", log, "--records", corrections, "--by", "tenant", "--format", "json")
    assert json.loads(out)["rows"][0]["cost"] == {"USD": "0.5002468"}
    assert json.loads(out)["rows"][0]["corrections"] == 1


def test_a_provider_s_export_is_held_against_all_tenants(run: Run, log: Path, tmp_path: Path) -> None:
    export = tmp_path / "openai.csv"
    export.write_text(
        "start_time_iso,amount_value,amount_currency,line_item\n"
        '2026-10-31T00:00:00+00:00,0.0002468,usd,"gpt-4o-2024-08-06, input"\n'
    )
    status, out, _ = run(
        "reconcile", "--records", log, "--ledger", export, "--source", "openai", "--month", "2026-10"
    )
    assert (status, "1 agrees" in out) == (0, True)


def test_a_platform_s_ledger_comes_page_by_page(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "tenant": t,
            "day": d,
            "model": m,
            "requests": 1,
            "usage": {},
            "costs": [{"currency": "USD", "exact": c}],
        }
        for t, d, m, c in (
            ("acme", "2026-10-31", "gpt-4o", "0.0002468"),
            ("acme", "2026-11-30", "gpt-4o", "0.0001234"),
            ("globex", "2026-11-05", "=evil", "0.0001234"),
        )
    ]

    class Ledger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            at = int(query.get("cursor", ["0"])[0])
            page = {"data": rows[at : at + 2], "next_cursor": str(at + 2) if at + 2 < len(rows) else None}
            allowed = self.headers["Authorization"] == "Bearer secret"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(json.dumps(page).encode())

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ledger) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            command = (
                "reconcile",
                "--records",
                log,
                "--platform-url",
                f"http://127.0.0.1:{server.server_port}/",
            )
            assert run(*command)[0] == 2
            monkeypatch.setenv("PLATFORM_TOKEN", "wrong")
            status, _, err = run(*command)
            assert (status, "HTTP 401" in err, "wrong" in err) == (2, True, False)
            monkeypatch.setenv("PLATFORM_TOKEN", "secret")
            status, out, _ = run(*command)
            assert (status, "3 agrees" in out) == (0, True)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("text", ["\xff\xfe", "{", "[3]", "a,b\n1,2\n"])
def test_what_is_no_ledger_is_named(run: Run, log: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(text.encode("latin-1"))
    status, _, err = run("reconcile", "--records", log, "--ledger", path)
    assert (status, "--ledger" in err) == (2, True)


@pytest.mark.parametrize("form", ["cloudevents", "openmeter", "lago", "stripe"])
def test_events_by_hand(log: Path, form: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["usage", "events", "--records", str(log), "--format", form]) == 0
    assert capfdbinary.readouterr().out.count(b"\n") == (12 if form == "stripe" else 1)


def test_the_spool_of_a_node(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENANTGATE_REDIS_URL", raising=False)
    status, _, err = run("usage", "--dir", tmp_path)
    assert (status, "--dir" in err) == (2, True)
    spool, head = FileSpool(tmp_path / "spool", [], max_records=9, max_bytes=1 << 20), START
    for number in range(3):
        entry, head = link(record(number), head, tenant=TenantId("acme"), node="n1", position=number)
        spool.append([entry])
    status, out, _ = run("usage", "--dir", tmp_path, "--format", "json")
    assert (status, json.loads(out)["total"]["requests"]) == (0, 3)
