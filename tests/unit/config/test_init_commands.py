from __future__ import annotations

import re
from pathlib import Path

import pytest

from tenantgate.cli import main
from tenantgate.config import load

FILES = {"tenants.yaml", "kong.conf", "tenantgate-egress.conf", ".env.example", ".gitignore"}


def test_a_folder_to_start_from(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert main(["init", str(folder)]) == 0
    assert {p.name for p in folder.iterdir() if p.is_file()} == FILES
    file = load(folder / "tenants.yaml")
    # What kong.conf and the file name lies in the folder, or in the installation.
    assert Path(file.gateway.policy.path).parent == folder / "policy"
    assert (folder / "policy").is_dir()
    assert f"nginx_http_include = {folder}/tenantgate-egress.conf" in (folder / "kong.conf").read_text()


def test_every_variable_of_the_file_is_in_the_example_without_a_value(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0
    text = (tmp_path / "tenants.yaml").read_text("utf-8")
    named = set(re.findall(r'env "(\w+)"|vault://env/(\w+)', text))
    example = (tmp_path / ".env.example").read_text("utf-8")
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == {
        "TENANTGATE_CACHE_KEY",
        *(one or other for one, other in named),
    }
    assert not re.search(r"^\w+=.", example, re.MULTILINE)


@pytest.mark.parametrize("there", sorted(FILES))
def test_a_file_that_is_there_stays(there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / there).write_text("mine")
    assert main(["init", str(tmp_path)]) == 0
    assert (tmp_path / there).read_text() == "mine"
    out = capsys.readouterr().out
    assert f"kept     {tmp_path / there}" in out
    assert out.count("written") == len(FILES) - 1


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").symlink_to(tmp_path / "elsewhere")
    assert main(["init", str(tmp_path)]) == 0
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("letter", [" ", "#", "'", "{"])
def test_a_folder_whose_name_kong_conf_cannot_hold_is_refused(
    letter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / f"a{letter}b")]) == 2
    assert "FOLDER" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file" / "x")]) == 2
    assert "file" in capsys.readouterr().err
