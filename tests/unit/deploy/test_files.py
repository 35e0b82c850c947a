"""Dockerfile, compose file and Helm values agree with kong.conf and with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantgate.audit.config import Audit
from tenantgate.config import deck_variables as placeholders
from tenantgate.config import load, render
from tenantgate.config.compile import compile_records
from tenantgate.config.kong_conf import KongConfOptions, kong_conf
from tenantgate.config.model import Policy
from tenantgate.config.targets import StreamingTimeouts

from support import ROOT

OPTIONS = KongConfOptions()
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
POSTGRES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.postgres.yml").read_text(encoding="utf-8"))
HELM: dict[str, Any] = yaml.safe_load((ROOT / "deploy/helm-values.yaml").read_text(encoding="utf-8"))
ENV = (ROOT / "deploy/tenants.env.example").read_text(encoding="utf-8")


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[1::3], parts[2::3], strict=True))


def test_the_image_has_what_kong_conf_names() -> None:
    gateway = stages()["gateway"]
    assert list(stages())[-1] == "gateway", "the last stage is what `docker build .` builds"
    assert f"COPY plugins {OPTIONS.plugins_dir}\n" in gateway
    assert "COPY kong.conf tenantgate-egress.conf /etc/kong/\n" in gateway
    assert str(OPTIONS.egress_include) == "/etc/kong/tenantgate-egress.conf"
    assert f"TENANTGATE_MODELS={OPTIONS.models_dir}\n" in stages()["build"]
    assert f"TENANTGATE_MODELS={OPTIONS.models_dir}" in gateway
    assert (
        f"python3 -m venv {str(OPTIONS.pluginserver).removesuffix('/bin/tenantgate-pluginserver')} "
        in DOCKERFILE
    )
    folders = re.findall(r"install -d .* (/\S+) (/\S+)\n", gateway)
    assert folders[0][0] == str(Path(Policy().path).parent)
    assert folders[1] == (str(OPTIONS.prefix), str(Path(str(OPTIONS.declarative_config)).parent))
    assert "USER kong\n" in gateway.rpartition("RUN ")[2]


def test_everything_that_is_copied_is_in_the_build_context() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert {f"!{source}", f"!{source.partition('/')[0]}"} & set(ignore)
            assert (ROOT / source).exists()


def test_compose_renders_where_kong_reads() -> None:
    services = COMPOSE["services"]
    render_step, kong = services["render"], services["kong"]
    folder = str(Path(str(OPTIONS.declarative_config)).parent)
    assert f"--kong-config={OPTIONS.declarative_config}" in render_step["command"]
    policies = f"policy:{Path(Policy().path).parent}"
    assert policies in render_step["volumes"]
    assert f"rendered:{folder}" in render_step["volumes"]
    assert kong["volumes"] == [f"rendered:{folder}:ro", policies, "audit:/var/lib/tenantgate/audit"]
    assert kong["depends_on"]["render"] == {"condition": "service_completed_successfully"}
    assert [t.partition(":")[0] for t in kong["tmpfs"]] == [str(OPTIONS.prefix), "/tmp"]
    port = OPTIONS.proxy_listen.rpartition(":")[2]
    assert kong["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert kong["healthcheck"]["test"][-1] == str(OPTIONS.prefix)


def test_compose_names_its_services_rightly() -> None:
    services = COMPOSE["services"]
    command = dict(a.removeprefix("--").split("=", 1) for a in services["render"]["command"] if "=" in a)
    assert command["redis"].partition(":")[0] in services
    assert re.match(r"http://(\w+):8089/", command["mock-url"])[1] in services  # type: ignore[index]
    assert '"--port", "8089"' in stages()["mock"]
    assert services["redis"]["image"] == "redis:8"


def test_every_service_is_read_only_and_without_privileges() -> None:
    for name, service in (*COMPOSE["services"].items(), *POSTGRES["services"].items()):
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_no_secret_is_written_down_and_none_is_forgotten() -> None:
    texts = []
    for name in ("tenants.yaml", "examples/demo.yaml"):  # those that compose's page starts with
        file = load(ROOT / name)
        texts += [render(file), *(record.decode() for record in compile_records(file).values())]
    names = {name for text in texts for name in (*placeholders.names(text), *placeholders.vault_names(text))}
    assert set(re.findall(r"^([A-Z_]+)=$", ENV, flags=re.MULTILINE)) == names
    assert not re.search(r"^[A-Z_]+=.", ENV, flags=re.MULTILINE)
    assert "environment" not in COMPOSE["services"]["render"]
    assert all(key.startswith("KONG_") for key in COMPOSE["services"]["kong"]["environment"])


METRICS = " --metrics-host 0.0.0.0 --metrics-port 9101"


def settings_of_kong_conf() -> dict[str, str]:
    return dict(re.findall(r"^(\w+) = (.+)$", (ROOT / "kong.conf").read_text("utf-8"), re.MULTILINE))


def test_helm_starts_the_engine_as_kong_conf_does_and_shows_its_metrics() -> None:
    start = settings_of_kong_conf()["pluginserver_tenantgate_start_cmd"] + METRICS
    assert HELM["env"]["pluginserver_tenantgate_start_cmd"] == start


def test_no_container_overrides_where_kong_finds_the_loopback_proxy() -> None:
    settings = settings_of_kong_conf()
    assert settings["nginx_http_include"] == str(OPTIONS.egress_include)
    assert "tenantgate_tries" in settings["nginx_http_lua_shared_dict"]
    own = {name.lower() for name in COMPOSE["services"]["kong"]["environment"]} | {*HELM["env"]}
    assert not [name for name in own if "nginx" in name]
    assert f"listen 127.0.0.1:{OPTIONS.egress_port};" in (ROOT / "tenantgate-egress.conf").read_text("utf-8")


def test_every_path_of_the_deployment_page_that_writes_kong_conf_writes_what_it_includes() -> None:
    for page in ("deploy.md", "attached.md", "migration.md", "configuration.md"):
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL):
            if re.search(r"render --kong-conf\b", block):
                assert "render --egress-conf" in block, f"{page}: {block}"


def test_helm_has_a_writable_folder_for_policies_and_asks_the_engine_before_requests_come() -> None:
    deployment = HELM["deployment"]
    (volume,) = deployment["userDefinedVolumes"]
    (mount,) = deployment["userDefinedVolumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": str(Path(Policy().path).parent)}
    assert HELM["startupProbe"]["httpGet"] == {"path": "/readyz", "port": int(METRICS.rsplit(maxsplit=1)[-1])}
    head = (ROOT / "deploy/helm-values.yaml").read_text("utf-8").partition("image:")[0]
    # A kong.yml alone is a gateway without policies.
    assert "tenantgate apply --kong-config kong.yml" in head
    assert "gateway.policy.store" in head


def _plugins(tree: Any) -> Iterator[dict[str, Any]]:
    for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if name == "plugins":
            yield from value
        if isinstance(value, dict | list):
            yield from _plugins(value)


def test_helm_agrees_with_kong_conf() -> None:
    assert HELM["env"]["prefix"] == str(OPTIONS.prefix)
    assert HELM["env"]["database"] == "off"
    # The chart writes KONG_PLUGINS=bundled,{preInstalled}, which comes before kong.conf's.
    named = f"bundled,{HELM['plugins']['preInstalled']}".split(",")
    assert named == settings_of_kong_conf()["plugins"].split(",")
    # Every plugin that the configuration of Kong names, as the renderer writes it.
    rendered = {p["name"] for p in _plugins(yaml.safe_load(render(load(ROOT / "tenants.yaml"))))}
    assert {name for name in rendered if name.startswith("tenantgate")} <= {*named}
    assert {p.stem for p in (ROOT / "plugins/kong/plugins").iterdir()} <= {*named}
    assert HELM["env"]["lua_package_path"] == settings_of_kong_conf()["lua_package_path"]
    assert HELM["ingressController"]["enabled"] is False
    assert set(HELM["dblessConfig"]) == {"secret"}


UNITS = ROOT / "deploy" / "systemd"


def test_the_systemd_unit_starts_what_kong_conf_names() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    unit = (UNITS / "tenantgate@.service").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    start = f"{OPTIONS.pluginserver} --plugin {OPTIONS.plugins_dir}/%i.py --processes ${{PROCESSES}}"
    assert settings["ExecStart"] == f"{start} --socket /run/tenantgate/%i.socket $CERTIFICATES"
    variables = {
        f"Environment=TENANTGATE_MODELS={OPTIONS.models_dir}",
        "Environment=PROCESSES=1 CERTIFICATES=",
    }
    assert variables <= {*unit.splitlines()}
    engine = (UNITS / "tenantgate@tenantgate.service.d" / "engine.conf").read_text(encoding="utf-8")
    assert f"Environment=PROCESSES={OPTIONS.processes}\n" in engine
    assert f'Environment="CERTIFICATES=--certificates {OPTIONS.secrets_dir}"\n' in engine
    assert settings["RuntimeDirectory"] == "tenantgate"
    writable = {f"/var/lib/{folder}" for folder in settings["StateDirectory"].split()}
    assert {str(Path(Policy().path).parent), Audit().dir} <= writable
    lines = dict(re.findall(r"^(pluginserver_\w+) = (.+)$", page, re.MULTILINE))
    options = KongConfOptions(attached=("tenant-semantic-cache",))
    written = dict(re.findall(r"^(pluginserver_\w+) = (.+)$", kong_conf(options), re.MULTILINE))
    query = "pluginserver_tenant_semantic_cache_query_cmd"
    assert lines[query] == written[query]
    socket = "pluginserver_tenant_semantic_cache_socket"
    assert lines[socket] == "/run/tenantgate/tenant-semantic-cache.socket"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (UNITS / "tenantgate@.service").read_text(encoding="utf-8")
    made = tmp_path / "tenantgate@tenantgate.service"
    made.write_text(unit.replace(str(OPTIONS.pluginserver), "/bin/true"))  # it asks for the file
    for command in (["verify"], ["security", "--offline=true", "--threshold=20"]):
        done = subprocess.run(
            ["systemd-analyze", *command, str(made)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not [line for line in done.stderr.splitlines() if "tenantgate@" in line]


def test_streams_may_end_before_a_node_is_killed() -> None:
    """Kong ends by SIGQUIT with its last stream, so whoever stops it waits as long as a stream may take."""
    longest_s = StreamingTimeouts().total_s
    for compose in (COMPOSE, POSTGRES):
        grace = compose["services"]["kong"]["stop_grace_period"]
        assert int(grace.removesuffix("m")) * 60 >= longest_s
    command = HELM["lifecycle"]["preStop"]["exec"]["command"]
    wait, timeout = (int(option.partition("=")[2]) for option in command[2:])
    assert timeout >= longest_s
    assert HELM["terminationGracePeriodSeconds"] > wait + timeout
    drop_in = (UNITS / "kong.service.d" / "tenantgate.conf").read_text(encoding="utf-8")
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", drop_in, re.MULTILINE)[0]) > longest_s
    # An ExecStop= that doesn't wait, as that of Kong's unit, is followed by SIGTERM, which cuts streams.
    assert "\nExecStop=\nKillSignal=SIGQUIT\nKillMode=mixed\n" in drop_in


def test_compose_with_a_database_has_what_its_kong_conf_would_have() -> None:
    services = POSTGRES["services"]
    written = dict(re.findall(r"^(\w+) = (.+)$", kong_conf(KongConfOptions(postgres=True)), re.MULTILINE))
    settings = {name.removeprefix("KONG_").lower(): v for name, v in services["kong"]["environment"].items()}
    for name in (
        "database",
        "db_update_frequency",
        "worker_state_update_frequency",
        "pluginserver_tenantgate_socket",
    ):
        assert settings[name] == written[name]
    # The image's kong.conf has one, and an empty setting is none.
    assert settings["pluginserver_tenantgate_start_cmd"] == ""
    assert "pluginserver_tenantgate_start_cmd" not in written
    engine = services["engine"]
    assert f"--socket={written['pluginserver_tenantgate_socket']}" in engine["command"]
    assert "sockets:/run/tenantgate" in {*engine["volumes"]} & {*services["kong"]["volumes"]}
    assert all("8001" not in port for service in services.values() for port in service.get("ports", ()))
    host = re.match(r"--admin-url=http://(\w+):8001", services["apply"]["command"][2])
    assert host is not None
    assert host[1] in services


def test_the_first_page_for_a_kong_with_a_database_starts_no_server_by_kong() -> None:
    conf = kong_conf(
        KongConfOptions(postgres=True, attached=("tenant-guardrails",), admin_listen="127.0.0.1:8001")
    )
    assert "_start_cmd" not in conf
    assert "declarative_config" not in conf
    assert conf.count("_query_cmd") == conf.count("_socket =") == 2
