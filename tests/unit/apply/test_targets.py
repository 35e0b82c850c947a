"""A Kong behind a file; those behind an Admin API are tried on the embedded host and on an Admin API made here."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from tenantgate.apply.core.entities import Entity, from_tree, state_of
from tenantgate.apply.core.plan import make_plan
from tenantgate.apply.targets import FileKong, parsed
from tenantgate.errors import ConfigError, EdgeError


def consumer(name: str, key: str) -> list[Entity]:
    tags = ["tenantgate"]
    return [
        Entity(kind="consumers", id=f"c-{name}", fields={"username": name, "custom_id": name, "tags": tags}),
        Entity(
            kind="keyauth_credentials",
            id=f"k-{name}",
            fields={"key": key, "consumer": f"c-{name}", "tags": tags},
        ),
    ]


def counts(folder: Path, *, fails: bool = False) -> str:
    """A command that notes that it ran."""
    text = f"open({str(folder / 'ran')!r}, 'a').write('x'); raise SystemExit({int(fails)})"
    return f"{sys.executable} -c {json.dumps(text)}"


def runs(folder: Path) -> int:
    path = folder / "ran"
    return len(path.read_text()) if path.exists() else 0


def apply(kong: FileKong, *wanted: Entity) -> None:
    plan = make_plan(kong.read(), wanted, whole=True)
    if kong.due(plan):
        kong.settle(plan)


def test_what_is_new_comes_and_what_is_gone_goes_in_one_reload(tmp_path: Path) -> None:
    path = tmp_path / "kong.yml"
    kong = FileKong(path, counts(tmp_path))
    apply(kong, *consumer("a", "k1"))
    apply(kong, *consumer("b", "k2"))
    assert {e.name for e in kong.read().values() if e.kind == "consumers"} == {"b"}
    assert runs(tmp_path) == 2


def test_what_isnt_compared_stays_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kong.yml"
    path.write_text("upstreams:\n- id: u\n  name: theirs\n")
    apply(FileKong(path, None), *consumer("a", "k1"))
    assert json.loads(path.read_text())["upstreams"] == [{"id": "u", "name": "theirs"}]


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "kong.yml"
    before = os.umask(0)
    try:
        apply(FileKong(path, None), *consumer("a", "k1"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["kong.yml"]


def test_no_change_is_no_reload(tmp_path: Path) -> None:
    kong = FileKong(tmp_path / "kong.yml", counts(tmp_path))
    apply(kong, *consumer("a", "k1"))
    once = runs(tmp_path)
    apply(kong, *consumer("a", "k1"))
    assert runs(tmp_path) == once


def test_a_reload_that_failed_or_was_cut_off_is_run_by_the_next_apply(tmp_path: Path) -> None:
    path = tmp_path / "kong.yml"
    apply(FileKong(path, counts(tmp_path)), *consumer("a", "k1"))
    with pytest.raises(EdgeError, match=r"--reload: .*status 1"):
        apply(FileKong(path, counts(tmp_path, fails=True)), *consumer("b", "k2"))
    # By then the file says all that it should.
    with pytest.raises(EdgeError):
        apply(FileKong(path, counts(tmp_path, fails=True)), *consumer("b", "k2"))
    before = runs(tmp_path)
    apply(FileKong(path, counts(tmp_path)), *consumer("b", "k2"))
    assert runs(tmp_path) > before
    assert {e.name for e in FileKong(path, None).read().values() if e.kind == "consumers"} == {"b"}
    assert not (tmp_path / "kong.yml.reload").exists()


def test_a_command_that_isnt_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="--reload: /no/such/command reload: FileNotFoundError"):
        apply(FileKong(tmp_path / "kong.yml", "/no/such/command reload"), *consumer("a", "k1"))


@pytest.mark.parametrize(
    ("command", "taken"),
    [
        ("kong reload -p /kong_prefix", False),
        ("/usr/local/bin/kong reload", False),
        ("kong reload -c /etc/kong/other.conf", True),
        ("kong reload --conf=/etc/kong/other.conf -p /kong_prefix", True),
        ("docker compose exec kong kong reload -p /kong_prefix", True),
        ("'", True),
    ],
)
def test_a_reload_after_which_kong_keeps_its_old_configuration_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, taken: bool
) -> None:
    monkeypatch.setattr("tenantgate.apply.targets._KONG_CONFS", (str(tmp_path / "kong.conf"),))
    monkeypatch.delenv("KONG_DECLARATIVE_CONFIG", raising=False)
    with contextlib.nullcontext() if taken else pytest.raises(ConfigError, match=r"--reload: .*add -c"):
        FileKong(tmp_path / "kong.yml", command)
    (tmp_path / "kong.conf").touch()
    FileKong(tmp_path / "kong.yml", command)


@pytest.mark.parametrize("text", ["- a", "{", "a: [", "a: !!python/object:os.system {}"])
def test_a_file_that_is_no_configuration_is_named_and_not_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^here: isn't a kong.yml$"):
        parsed(text, "here")


def test_texts_that_look_like_dates_are_texts() -> None:
    text = 'a: 2023-06-01\nb: "2024-10-21"\nc: 3\nd: true\ne: null\n'
    assert parsed(text, "") == {"a": "2023-06-01", "b": "2024-10-21", "c": 3, "d": True, "e": None}


def test_an_earlier_file_in_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kong.yml"
    path.write_text(
        "_format_version: '3.0'\nconsumers: [{username: tenant_a, keyauth_credentials: [{key: k}]}]\n"
    )
    found = FileKong(path, None).read()
    assert found == state_of(
        from_tree({"consumers": [{"username": "tenant_a", "keyauth_credentials": [{"key": "k"}]}]})
    )
