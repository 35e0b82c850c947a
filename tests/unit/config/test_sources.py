from __future__ import annotations

import os
from pathlib import Path

import pytest

from tenantgate.config.sources import sources
from tenantgate.errors import ConfigError


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    return folder


def names(path: Path) -> list[str]:
    return [Path(source.name).name for source in sources(path)]


def problems(path: Path) -> list[str]:
    return [str(source.text) for source in sources(path) if isinstance(source.text, ConfigError)]


def test_a_file_is_its_text(tmp_path: Path) -> None:
    write(tmp_path, "t.yaml", "other.yaml")
    (source,) = sources(tmp_path / "t.yaml")
    assert (source.name, source.text) == (str(tmp_path / "t.yaml"), "# t.yaml\n")


def test_a_folder_is_its_yaml_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "b.yml", "a.yaml", "C.YAML", "README.md", "a.yaml~", ".hidden.yaml", ".git/x.yaml")
    assert names(tmp_path) == ["C.YAML", "a.yaml", "b.yml"]


def test_the_folder_beside_a_file_belongs_to_it(tmp_path: Path) -> None:
    write(tmp_path, "tenants.yaml", "tenants.d/b.yaml", "tenants.d/a.yaml", "other.d/c.yaml")
    assert names(tmp_path / "tenants.yaml") == ["tenants.yaml", "a.yaml", "b.yaml"]


def test_the_folder_beside_a_file_may_be_empty(tmp_path: Path) -> None:
    (write(tmp_path, "tenants.yaml") / "tenants.d").mkdir()
    assert names(tmp_path / "tenants.yaml") == ["tenants.yaml"]


@pytest.mark.parametrize("others", [(), ("README.md", ".x.yaml")])
def test_a_folder_without_files_is_refused(tmp_path: Path, others: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"holds no \*\.yaml"):
        sources(write(tmp_path, *others))


def test_a_folder_in_the_folder_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "team/b.yaml", "x.yaml/c.yaml")
    assert [text.partition(": ")[2] for text in problems(tmp_path)] == [
        f"is a folder; files lie directly in {tmp_path}"
    ] * 2


def test_a_link_to_what_is_not_in_the_folder_is_a_problem(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", "a.yaml")
    (write(tmp_path, "out.yaml") / "in/b.yaml").symlink_to(tmp_path / "out.yaml")
    (problem,) = problems(folder)
    assert problem == f"{folder / 'b.yaml'}: is a link to a file outside {folder}"


def test_links_within_the_folder_are_read_as_kubernetes_makes_them(tmp_path: Path) -> None:
    write(tmp_path, "..2026/a.yaml")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    (source,) = sources(tmp_path)
    assert source.text == "# ..2026/a.yaml\n"


def test_a_file_that_can_not_be_read_is_a_problem_beside_the_others(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml")
    (tmp_path / "b.yaml").symlink_to("nothing")
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    os.mkfifo(tmp_path / "d.yaml")
    assert [text.partition(": ")[2] for text in problems(tmp_path)] == [
        "No such file or directory",
        "isn't UTF-8 (byte 0)",
        "isn't a file",
    ]


def test_the_one_file_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        sources(tmp_path / "t.yaml")
