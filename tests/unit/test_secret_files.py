"""The vault `file`, in Python and in Kong's Lua: the same answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lua_rig import Log
from tenantgate import secret_files
from tenantgate.devhost.lua_state import LuaState
from tenantgate.paths import plugins_dir

PROBLEMS: dict[str, Callable[[Path], object]] = {
    "there is no such file": lambda f: None,
    "is no file": lambda f: (f / "NAME").mkdir(),
    "is no file ": lambda f: os.mkfifo(f / "NAME"),
    "is empty": lambda f: (f / "NAME").write_text("\r\n"),
    "is longer than 64 KB": lambda f: (f / "NAME").write_text("x" * (secret_files.MAX_BYTES + 1)),
    "every user may write it": lambda f: ((f / "NAME").write_text("s"), (f / "NAME").chmod(0o646)),
    "a link leads out of the folder": lambda f: (f / "NAME").symlink_to(f.parent / "outside"),
    "there is no folder of secrets": lambda f: f.rmdir(),
}


def in_lua(folder: Path, name: str) -> str:
    state = LuaState(Log(), {"vault_file_prefix": str(folder)}, f"{plugins_dir()}/?.lua;;")
    answer = state.module("kong.vaults.file")[b"get"](None, os.fsencode(name))
    assert isinstance(answer, tuple)
    text = next(part for part in answer if part is not None)
    return os.fsdecode(text)


def in_python(folder: Path, name: str) -> str:
    try:
        return secret_files.read(folder, name)
    except secret_files.SecretFileError as error:
        return str(error)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "secrets"
    made.mkdir()
    (tmp_path / "outside").write_text("not a secret of this folder")
    return made


@pytest.mark.parametrize("read", [in_lua, in_python])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_no_secret_is_told_and_never_given(
    read: Callable[[Path, str], str], problem: str, folder: Path
) -> None:
    PROBLEMS[problem](folder)
    assert read(folder, "NAME") == problem.strip()


@pytest.mark.parametrize("read", [in_lua, in_python])
def test_links_within_the_folder_are_followed_as_kubernetes_makes_them(
    read: Callable[[Path, str], str], folder: Path
) -> None:
    for version in ("one", "two"):
        (folder / f"..{version}").mkdir()
        (folder / f"..{version}" / "key").write_text(version)
    (folder / "..data").symlink_to("..one")
    (folder / "key").symlink_to("..data/key")
    assert read(folder, "key") == "one"
    (folder / "..next").symlink_to("..two")
    (folder / "..next").rename(folder / "..data")
    assert read(folder, "key") == "two"


STRANGER = 54321  # a user's id


@pytest.mark.parametrize("read", [in_lua, in_python])
@pytest.mark.parametrize(
    ("mode", "of_stranger", "trusted"),
    [
        (0o755, [], True),
        (0o1777, [], True),  # a mounted secret of Kubernetes: a tmpfs
        (0o777, [], False),
        (0o1777, ["key"], False),
        (0o1777, ["..one/key"], False),
        (0o755, ["key", "..one/key"], True),
    ],
)
def test_where_everybody_may_write_only_the_owners_files_count(
    read: Callable[[Path, str], str], mode: int, of_stranger: list[str], trusted: bool, folder: Path
) -> None:
    if of_stranger and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    (folder / "..one").mkdir()
    (folder / "..one" / "key").write_text("s")
    (folder / "key").symlink_to("..one/key")
    for name in of_stranger:
        os.chown(folder / name, STRANGER, STRANGER, follow_symlinks=False)
    folder.chmod(mode)
    assert read(folder, "key") == ("s" if trusted else "every user may write it")


@pytest.mark.parametrize("read", [in_lua, in_python])
@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_on_the_way_is_not_everybodys(
    read: Callable[[Path, str], str], mode: int, folder: Path
) -> None:
    (folder / "..one").mkdir()
    (folder / "..one" / "key").write_text("s")
    (folder / "key").symlink_to("..one/key")
    (folder / "..one").chmod(mode)
    assert read(folder, "key") == "every user may write it"


@pytest.mark.parametrize("read", [in_lua, in_python])
@pytest.mark.parametrize(
    "name", ["..", ".", "", "../outside", "a/b", "a\0b", "..data", "%2e%2e", "ü", "a" * 256]
)
def test_a_name_is_no_path(read: Callable[[Path, str], str], name: str, folder: Path) -> None:
    assert read(folder, name) == "a name has letters, digits, '.', '_' and '-' only"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.text("aB0._-/%", min_size=1, max_size=6),
    raw=st.binary(max_size=8).map(lambda b: b.replace(b"\0", b"")),
)
def test_both_readers_agree(name: str, raw: bytes, folder: Path) -> None:
    for left in folder.iterdir():
        left.unlink()
    if "/" not in name and name not in (".", ".."):
        (folder / name).write_bytes(raw)
    assert in_lua(folder, name) == in_python(folder, name)


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("{vault://file/acme-openai}", "sk-1"),
        ("{vault://file/acme.json/openai}", "sk-2"),
        ("{vault://file/acme.json/no}", None),
        ("{vault://file/acme-openai/openai}", None),
    ],
)
def test_a_reference_names_a_file_or_a_member_of_its_json(
    reference: str, there: str | None, folder: Path
) -> None:
    (folder / "acme-openai").write_text("sk-1\n")
    (folder / "acme.json").write_text('{"openai": "sk-2"}')
    at = secret_files.parse(reference)
    assert at is not None
    if there is None:
        with pytest.raises(secret_files.SecretFileError, match="JSON"):
            secret_files.read(folder, *at)
    else:
        assert secret_files.read(folder, *at) == there


@pytest.mark.parametrize(
    "reference", ["{vault://env/A}", "{vault://file/a?prefix=/etc}", "{vault://file/../a}"]
)
def test_other_references_are_not_its(reference: str) -> None:
    assert secret_files.parse(reference) is None
