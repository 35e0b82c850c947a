"""The verifiers that ship: readers in turn, and the calibration of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantgate.cache.core.verifier_cascade import Cascade, Stage
from tenantgate.errors import EdgeError
from tenantgate.models.files import ADAPTERS, find_models
from tenantgate.models.ports import BUILT_IN, LARGE
from tenantgate.models.shipped import SHIPPED

if TYPE_CHECKING:
    from tenantgate.models.files import ModelFiles
    from tenantgate.models.inference import OnnxLateReader, OnnxPairReader

__all__ = ["READERS", "STAGES", "calibration_file", "load_readers", "load_verifier"]

READERS: Final[Mapping[str, tuple[str, ...]]] = {BUILT_IN: ("late",), LARGE: ("late", "mpnet")}
"""The readers of each verifier, in turn."""

# The cosine counts for more than where the reader was trained (10): so fewer hits on traffic are wrong. Beside the
# cross-encoder it counts for little, since there it costs hard pairs, which that one is for. The late reader says yes
# to two thirds of the hits on traffic there, which costs hard pairs .01 of recall; and a no to nine tenths of the rest.
_LATE: Final = Stage((1.0,), cosine=28.0, at=0.78)
STAGES: Final[Mapping[str, tuple[Stage, ...]]] = {
    BUILT_IN: (_LATE,),
    LARGE: (replace(_LATE, no=0.27, yes=2.2), Stage((0.3, 1.0), cosine=3.0, at=0.78)),
}
"""What is made of them."""


def calibration_file(verifier: str) -> Path:
    """How often answers at or above a score of the verifier of this name were wrong, where it wasn't trained."""
    return SHIPPED / ("calibration.json" if verifier == BUILT_IN else f"calibration-{verifier}.json")


def load_readers(
    name: str, files: ModelFiles, *, cache_dir: Path | None = None, adapters: Mapping[str, Path] = ADAPTERS
) -> list[OnnxPairReader | OnnxLateReader]:
    """The readers of a verifier (`READERS`), of the default models in `files` and what else it needs.

    Raises:
        EdgeError: its models aren't built or can't be loaded.
    """
    readers = [files.reader(each) for each in READERS[BUILT_IN]]
    if name == LARGE:
        large = find_models(LARGE, cache_dir, adapters=adapters)
        if large is None:
            raise EdgeError("models: the large verifier isn't built: run `tenantgate models build --large`")
        readers.append(large.reader("mpnet"))
    return readers


def load_verifier(name: str, files: ModelFiles) -> Cascade:
    """The verifier of this name; as `load_readers`."""
    return Cascade(load_readers(name, files), STAGES[name])
