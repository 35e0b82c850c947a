"""The embedded host's Admin API: another configuration, live."""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devhost_rig import World, plays
from tenantgate.apply.admin_api import AdminApi
from tenantgate.apply.core.entities import Entity, from_tree, to_tree
from tenantgate.apply.core.plan import make_plan
from tenantgate.apply.targets import DblessKong, connect
from tenantgate.errors import EdgeError


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def kong(world: World) -> DblessKong:
    found = connect(f"http://127.0.0.1:{world.admin_port}")
    assert isinstance(found, DblessKong)
    return found


def config(world: World) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(AdminApi(f"127.0.0.1:{world.admin_port}").get("/config")["config"])
    return found


def post(world: World, tree: dict[str, Any]) -> None:
    AdminApi(f"127.0.0.1:{world.admin_port}").send("POST", "/config", tree, what="the configuration")


def with_consumer(tree: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(tree)
    made["consumers"].append(
        {"username": "tenant_c", "custom_id": "c", "keyauth_credentials": [{"key": "k3"}]}
    )
    made["consumers"][-1]["acls"] = [{"group": "g"}]
    return made


def status(world: World, key: str) -> int:
    return world.chat(headers={"apikey": key})[0]


def test_a_new_tenants_key_opens_at_once_and_a_gone_one_doesnt(world: World) -> None:
    assert (status(world, "k"), status(world, "k3")) == (200, 401)
    tree = config(world)
    post(world, with_consumer(tree))
    assert (status(world, "k"), status(world, "k3")) == (200, 200)
    post(world, tree)
    assert (status(world, "k"), status(world, "k3")) == (200, 401)


def test_a_request_in_flight_ends_by_the_configuration_that_it_began_with(world: World) -> None:
    entered, go = threading.Event(), threading.Event()

    def script() -> Generator[tuple[str, list[Any]], Any, None]:
        entered.set()
        go.wait(10)
        yield "kong.ctx.shared.set", ["a", 1]

    world.plugins.scripts["access"] = script
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(status(world, "k")))
    thread.start()
    assert entered.wait(10)
    del world.plugins.scripts["access"]
    tree = config(world)
    tree["consumers"] = []
    post(world, tree)
    assert status(world, "k") == 401
    go.set()
    thread.join(10)
    assert found == [200]


def test_a_plugins_new_configuration_is_a_new_instance_and_the_old_one_ends(world: World) -> None:
    status(world, "k")
    tree = config(world)
    for route in tree["services"][0]["routes"]:
        for plugin in route["plugins"]:
            if plugin["name"] == "mine":
                plugin["config"]["word"] = "other"
    post(world, tree)
    plays(world, ("kong.client.get_consumer", []))
    status(world, "k")
    words = [config["word"] for config in world.plugins.configs]
    assert (words[0], words[-1]) == ("w", "other")
    assert "plugin.CloseInstance" in world.plugins.methods


def test_what_cant_be_honoured_changes_nothing_and_is_named(world: World) -> None:
    tree = with_consumer(config(world))
    tree["consumers"][-1]["keyauth_credentials"][0]["key"] = "k"
    with pytest.raises(EdgeError, match="400: invalid declarative configuration"):
        post(world, tree)
    assert status(world, "k") == 200
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", world.admin_port, timeout=10)
    ) as connection:
        connection.request("POST", "/config", b"{", {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 400
        assert "kong.yml" in json.loads(answer.read())["message"]


def test_apply_reads_and_changes_it(world: World, kong: DblessKong) -> None:
    def ours(tree: dict[str, Any]) -> list[Entity]:
        return [e.with_fields(tags=["tenantgate"]) for e in from_tree(tree)]

    post(world, to_tree(ours(config(world))))
    wanted = ours(with_consumer(config(world)))
    plan = make_plan(kong.read(), wanted, whole=True)
    assert {e.kind for e in plan.admit} == {"consumers", "keyauth_credentials"}
    kong.settle(plan)
    assert status(world, "k3") != 401
    assert not make_plan(kong.read(), wanted, whole=True).withdraw
