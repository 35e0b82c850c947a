"""The lock files: all that is installed is named, in the versions that the project asks for, with hashes."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {"runtime": (), "mock": ("mock",), "dev": ("mock", "dev-host", "dev")}
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
    return {str(canonicalize_name(found[1])): found[2] for found in PINNED.finditer(text)}


@pytest.mark.parametrize("name", list(EXTRAS))
def test_a_lock_file_has_all_that_the_project_asks_for(name: str) -> None:
    asked = PROJECT["dependencies"] + [
        line for extra in EXTRAS[name] for line in PROJECT["optional-dependencies"][extra]
    ]
    found = locked(name)
    for requirement in map(Requirement, asked):
        if requirement.name != "tenantgate":
            assert requirement.specifier.contains(
                found[canonicalize_name(requirement.name)], prereleases=True
            )


@pytest.mark.parametrize("name", ["build", "release", *EXTRAS])
def test_each_package_of_a_lock_file_has_hashes_and_comes_from_no_named_place(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        assert PINNED.match(block), block[:60]
        assert "--hash=sha256:" in block, block[:60]
    assert "://" not in text


def test_images_and_tests_run_the_same_versions() -> None:
    dev = locked("dev")
    for name in ("runtime", "mock", "build", "release"):
        assert all(dev.get(package, version) == version for package, version in locked(name).items())
    assert locked("runtime").items() <= locked("mock").items() <= dev.items()


@pytest.mark.parametrize("path", ["Makefile", "Dockerfile"])
def test_what_is_installed_from_a_registry_has_to_be_a_wheel_with_a_known_hash(path: str) -> None:
    text = (ROOT / path).read_text("utf-8").replace("\\\n", " ")
    for line in re.findall(r"(?:pip|INSTALL\)) (?:install|--quiet|wheel)[^&\n]*", text):
        assert "--require-hashes" in line or "INSTALL)" in line or "--no-deps" in line, line
