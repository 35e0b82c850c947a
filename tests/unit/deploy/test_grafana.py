"""The compose profile `observability` agrees with kong.conf, with the metrics in the source and with the record."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantgate.audit.config import Audit, AuditConfig
from tenantgate.audit.core.record import schema
from tenantgate.config.kong_conf import kong_conf
from tenantgate.fields import fields_of

from support import ROOT

FOLDER = ROOT / "deploy/grafana"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OBSERVERS = {n: s for n, s in SERVICES.items() if s.get("profiles") == ["observability"]}
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "tenantgate.json").read_text(encoding="utf-8"))
MONEY: dict[str, Any] = json.loads((FOLDER / "money.json").read_text(encoding="utf-8"))
OBJECTIVES: dict[str, Any] = json.loads((FOLDER / "objectives.json").read_text(encoding="utf-8"))
PANELS = [p for board in (DASHBOARD, MONEY, OBJECTIVES) for p in board["panels"] if p["type"] != "row"]
METRICS = re.compile(
    r'(?:metrics\.)?\b(counter|gauge|histogram)\(\s*"((?:tenantgate|kong_ai_mcp)_\w+)",\s*(?:"[^"]*"\s*)+(?:,\s*\(([^)]*)\))?'
)


def config(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@functools.cache
def declared() -> dict[str, set[str]]:
    """Each metric of the source with its labels."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "src/tenantgate").rglob("*.py"):
        for kind, name, labels in METRICS.findall(path.read_text(encoding="utf-8")):
            found[name] = set(re.findall(r'"(\w+)"', labels))
            if kind == "histogram":
                found[f"{name}_bucket"] = found[name] | {"le"}
                found[f"{name}_count"] = found[name]
    for path in (ROOT / "src/tenantgate").rglob("*/core/*.py"):  # those that a command writes into a file
        for name in re.findall(r'"# TYPE (tenantgate_\w+) ', text := path.read_text(encoding="utf-8")):
            found[name] = set(re.findall(r"(\w+)=", text))
    return found


def queries(source: str) -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            if target["datasource"]["uid"] == source:
                yield panel["title"], target["expr"]


def test_the_profile_has_all_that_it_needs() -> None:
    assert set(OBSERVERS) == {"alloy", "loki", "prometheus", "grafana"}
    for name, service in OBSERVERS.items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), f"{name}: a version that stays the same"
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert volume.endswith(":ro"), name
                assert (ROOT / source).is_file(), source
            else:
                assert source in COMPOSE["volumes"], source


def test_nothing_of_it_is_open_to_the_network() -> None:
    assert {name: s["ports"] for name, s in OBSERVERS.items() if "ports" in s} == {
        "grafana": ["127.0.0.1:3000:3000"]
    }


def test_the_audit_logs_folder_is_the_default_one_and_belongs_to_kong() -> None:
    folder = Audit().dir
    assert f"audit:{folder}" in SERVICES["kong"]["volumes"]
    assert re.search(rf"install -d -o kong .* {folder}\n", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert SERVICES["kong"]["hostname"]
    assert '"/audit/audit.jsonl"' in (FOLDER / "records.alloy").read_text(encoding="utf-8")


def test_each_plugin_server_starts_as_in_kong_conf_and_is_scraped() -> None:
    text = kong_conf()
    environment = SERVICES["kong"]["environment"]
    (job,) = config("prometheus.yaml")["scrape_configs"]
    scraped = {c["labels"]["server"]: c["targets"] for c in job["static_configs"]}
    plugins = ["tenantgate"]
    assert set(scraped) == set(plugins)
    for name in plugins:
        setting = f"pluginserver_{name.replace('-', '_')}_start_cmd"
        usual = re.search(rf"^{setting} = (.*)$", text, re.MULTILINE)
        assert usual is not None
        ours, _, port = environment[f"KONG_{setting.upper()}"].rpartition(
            " --metrics-host 0.0.0.0 --metrics-port "
        )
        assert ours == usual[1]
        assert scraped[name] == [f"kong:{port}"]


def test_datasources_are_where_the_services_listen() -> None:
    found = {d["uid"]: d["url"] for d in config("datasources.yaml")["datasources"]}
    assert found == {"loki": "http://loki:3100", "prometheus": "http://prometheus:9090"}
    assert config("loki.yaml")["server"]["http_listen_port"] == 3100
    provider = config("dashboards.yaml")["providers"][0]["options"]["path"]
    assert any(f"tenantgate.json:{provider}/tenantgate.json:ro" in v for v in SERVICES["grafana"]["volumes"])


def test_the_largest_record_gets_into_loki() -> None:
    server, limits = config("loki.yaml")["server"], config("loki.yaml")["limits_config"]
    bounds = fields_of(AuditConfig)["max_content_bytes"].spec.between
    assert bounds is not None
    line = 2 * 6 * bounds[1]  # prompt and reply; of a byte JSON may make six characters
    for size in ("max_line_size", "per_stream_rate_limit_burst"):
        assert int(limits[size].removesuffix("MB")) * 1_000_000 > line
    assert limits["ingestion_burst_size_mb"] * 1_000_000 > line
    assert min(server["grpc_server_max_recv_msg_size"], server["grpc_server_max_send_msg_size"]) > line
    assert "max_backoff_retries = 0" in (FOLDER / "records.alloy").read_text(encoding="utf-8")


def test_records_have_few_labels_and_the_rest_is_structured_metadata() -> None:
    """https://grafana.com/docs/alloy/latest/reference/components/loki/loki.process/#stagestructured_metadata"""
    text = re.sub(r"//.*", "", (FOLDER / "records.alloy").read_text(encoding="utf-8"))

    def values(stage: str) -> set[str]:
        (block,) = re.findall(rf"stage\.{stage} \{{\s*values\s*=\s*\{{([^}}]*)\}}", text)
        return set(re.findall(r"(\w+)\s*=", block))

    (extracted,) = re.findall(r"stage\.json \{\s*expressions\s*=\s*\{([^}]*)\}", text)
    fields = dict(re.findall(r'(\w+)\s*=\s*"([^"]+)"', extracted))
    assert values("labels") == {"tenant"}
    assert values("structured_metadata") == fields.keys() - {"tenant", "time"}
    assert text.index("stage.json") < text.index("stage.structured_metadata")
    for path in fields.values():
        node: Any = schema()["anyOf"][0]
        for step in path.split("."):
            node = node["properties"][step]
    # Loki takes it by schema 13 on, with the index tsdb.
    assert config("loki.yaml")["limits_config"]["allow_structured_metadata"] is True
    (period,) = config("loki.yaml")["schema_config"]["configs"]
    assert (period["schema"], period["store"]) == ("v13", "tsdb")


def test_every_query_asks_a_datasource_that_there_is() -> None:
    known = {d["uid"]: d["type"] for d in config("datasources.yaml")["datasources"]}
    sources = [p["datasource"] for p in PANELS] + [t["datasource"] for p in PANELS for t in p["targets"]]
    sources += [v["datasource"] for v in DASHBOARD["templating"]["list"]]
    assert {(s["uid"], s["type"]) for s in sources} == set(known.items())
    listed = Path(config("dashboards.yaml")["providers"][0]["options"]["path"])
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == listed


@pytest.mark.parametrize(
    ("board", "titles"),
    [
        (
            DASHBOARD,
            ["Requests", "Cache", "Guard", "Tokens and cost", "Latency", "Providers", "MCP", "Audit log"],
        ),
        (MONEY, ["Budgets", "Cost of requests", "Alerts"]),
        (OBJECTIVES, ["Requests", "Objectives"]),
    ],
)
def test_the_dashboard_covers_what_it_should(board: dict[str, Any], titles: list[str]) -> None:
    rows = [p["title"] for p in board["panels"] if p["type"] == "row"]
    assert rows == titles
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def alerts() -> list[tuple[str, str]]:
    return [(r["alert"], r["expr"]) for g in config("alerts.yaml")["groups"] for r in g["rules"]]


def objectives() -> list[tuple[str, str]]:
    rules = [r for g in config("slo.yaml")["groups"] for r in g["rules"]]
    return [(r.get("alert") or r["record"], r["expr"]) for r in rules]


def test_prometheus_reads_the_rules() -> None:
    for path in config("prometheus.yaml")["rule_files"]:
        name = Path(path).name
        assert f"./deploy/grafana/{name}:{path}:ro" in SERVICES["prometheus"]["volumes"]
    names = [name for name, _ in alerts()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("test", sorted(path.name for path in FOLDER.glob("*_test.yaml")))
def test_rules_fire_when_they_should(tmp_path: Path, test: str) -> None:
    promtool = shutil.which("promtool") or pytest.skip("promtool isn't installed")
    for name in (test, *config(test)["rule_files"]):
        shutil.copy(FOLDER / name, tmp_path / name)
    done = subprocess.run(
        [promtool, "test", "rules", test], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alerts_text_names_labels_that_its_query_keeps() -> None:
    for group in config("alerts.yaml")["groups"]:
        for rule in group["rules"]:
            kept = {word for by in re.findall(r"by \(([^)]*)\)", rule["expr"]) for word in by.split(", ")}
            assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= kept, rule["alert"]


@pytest.mark.parametrize(("title", "query"), [*queries("prometheus"), *alerts(), *objectives()])
def test_a_query_names_metrics_and_labels_that_there_are(title: str, query: str) -> None:
    known = declared() | {"up": {"job", "instance"}, "probe_ssl_earliest_cert_expiry": {"instance"}}
    recorded = {name for name, _ in objectives()}
    if names := re.findall(r"tenantgate:[\w:]+", query):
        assert set(names) <= recorded
        return
    names = re.findall(r"(?:tenantgate|kong_ai_mcp)_\w+|\bup\b", query)
    assert names
    for name in names:
        assert name in known, name
    for by in re.findall(r"by \(([^)]*)\)", query):
        assert {word.strip() for word in by.split(",")} <= known[names[0]]
    for label in re.findall(r"[{,]\s*(\w+)!?=", query):
        assert label in known[names[0]]


def test_the_documented_metrics_are_those_of_the_source() -> None:
    known = declared()
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "SECURITY.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = re.findall(r"`(tenantgate_\w+_(?:total|seconds|bytes|open|drained|up))(?:\{(\w+)[^`]*\})?`", text)
    assert len(named) >= 30
    for name, label in named:
        assert name in known, name
        assert not label or label in known[name]


@pytest.mark.parametrize(("title", "query"), list(queries("loki")))
def test_a_query_of_records_names_fields_that_there_are(title: str, query: str) -> None:
    assert '{job="tenantgate", tenant=~"$tenant"}' in query
    for found in re.findall(r"\| json ([^|]*)", query):
        for path in re.findall(r'="([^"]+)"', found):
            node: Any = schema()["anyOf"][0]
            for step in path.split("."):
                if step in node.get("properties", {}):
                    node = node["properties"][step]
                else:
                    assert node.get("additionalProperties"), path
                    node = node["additionalProperties"]
                    node = node if isinstance(node, dict) else {}
                    if node == {"type": "object"}:  # a verdict: each plugin's own
                        break
