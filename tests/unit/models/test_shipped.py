"""The trained data of the package is what was released, or isn't used."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tenantgate.cache import models as cache_models
from tenantgate.cache.verifier import calibration_file
from tenantgate.compress import models as compress_models
from tenantgate.errors import TenantgateError
from tenantgate.guard.weights import injection_weights
from tenantgate.models import shipped
from tenantgate.models.files import build_models, find_models
from tenantgate.models.ports import BUILT_IN, LARGE

from support import ROOT


@pytest.fixture(scope="module")
def checksums() -> ModuleType:
    spec = importlib.util.spec_from_file_location("checksums", ROOT / "training" / "checksums.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_hashes_are_those_of_the_files(checksums: ModuleType) -> None:
    assert shipped.SHA256SUMS.read_text("ascii") == checksums.current(), "run training/checksums.py"


def _calibration(path: Path) -> None:
    name = LARGE if "large" in path.name else BUILT_IN
    cache_models._calibration(name, "0" * 16, path)


def _adapters(path: Path) -> dict[str, Path]:
    return {name: path.parent / f"{name}.safetensors" for name in ("late", "mpnet")}


def _built(path: Path) -> None:
    name = BUILT_IN if path.stem == "late" else LARGE
    build_models(name, path.parent / "built", source=path.parent, adapters=_adapters(path))


def _found(path: Path) -> None:
    find_models(BUILT_IN if path.stem == "late" else LARGE, path.parent / "built", adapters=_adapters(path))


USES: dict[str, tuple[Callable[[Path], object], ...]] = {
    "calibration.json": (_calibration,),
    "calibration-large.json": (_calibration,),
    "compressor.npz": (compress_models.Head.load,),
    "injection.npz": (injection_weights,),
    "late.safetensors": (_built, _found),
    "mpnet.safetensors": (_built, _found),
}


def test_each_file_has_a_use() -> None:
    assert sorted(line.split()[1] for line in shipped.SHA256SUMS.read_text("ascii").splitlines()) == sorted(
        USES
    )
    assert {calibration_file(name).name for name in (BUILT_IN, LARGE)} <= USES.keys()


@pytest.mark.parametrize("change", ["a byte", "gone from the list"])
@pytest.mark.parametrize(("name", "use"), [(name, use) for name, uses in USES.items() for use in uses])
def test_a_changed_file_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, use: Callable[[Path], object], change: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shipped.SHIPPED, data)
    monkeypatch.setattr(shipped, "SHIPPED", data)
    monkeypatch.setattr(shipped, "SHA256SUMS", data / shipped.SHA256SUMS.name)
    monkeypatch.delenv("TENANTGATE_CALIBRATION", raising=False)
    path = data / name
    if change == "a byte":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        sums = shipped.SHA256SUMS.read_text("ascii").splitlines(keepends=True)
        shipped.SHA256SUMS.write_text("".join(line for line in sums if name not in line), "ascii")
    with pytest.raises(TenantgateError, match=f"{name} isn't the file that was released"):
        use(path)


def test_without_the_list_nothing_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped, "SHA256SUMS", tmp_path / "none")
    with pytest.raises(TenantgateError, match=r"injection\.npz: can't be checked"):
        injection_weights()


def test_a_file_of_the_operators_own_is_not_checked(tmp_path: Path) -> None:
    shutil.copy(compress_models.HEAD, tmp_path / "own.npz")
    assert compress_models.Head.load(tmp_path / "own.npz").layers == 1
