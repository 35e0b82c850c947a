"""The models of the similar level, loaded once for the whole process, never in a request.

Without them (not built, extra not installed, bound that no score keeps) the exact level works on and the log
says why, once.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantgate.cache.calibration import Calibration
from tenantgate.errors import TenantgateError
from tenantgate.kong import logs

if TYPE_CHECKING:
    from tenantgate.cache.ports import Embedder, PairVerifier

__all__ = ["BUILT_IN", "CacheModels", "Models"]

_log: Final = logging.getLogger("tenantgate.cache")

BUILT_IN: Final = "built-in"


@dataclass(frozen=True, slots=True)
class CacheModels:
    """What finds a neighbour, what reads it, and what its score means."""

    embedder: Embedder
    verifier: PairVerifier
    calibration: Calibration


class Models:
    """Models by the name of their embedder; thread-safe."""

    def __init__(self) -> None:
        self._loaded: dict[str, CacheModels | None] = {}
        self._loading: set[str] = set()
        self._lock = threading.Lock()

    def get(self, name: str) -> CacheModels | None:
        """The models if they are loaded; else None, and a thread begins to load them."""
        if name in self._loaded:
            return self._loaded[name]
        with self._lock:
            if name in self._loaded or name in self._loading:
                return self._loaded.get(name)
            self._loading.add(name)
        threading.Thread(target=self.load, args=(name,), name="load-models", daemon=True).start()
        return None

    def load(self, name: str) -> CacheModels | None:
        """Load the models and give them; None if they can't be had, which is logged."""
        found: CacheModels | None = None
        try:
            found = _load(name)
        except Exception as error:  # noqa: BLE001 - a broken model must not take the exact level along
            logs.event(_log, logging.ERROR, "the similar level is off", **logs.describe(error))
        with self._lock:
            self._loading.discard(name)
            return self._loaded.setdefault(name, found)


def _load(name: str) -> CacheModels:
    # Imported here: NumPy and ONNX Runtime take a quarter of a second, and `--dump` must not wait for them.
    from tenantgate.edge import models  # noqa: PLC0415

    files = models.find_default_models()
    if files is None:
        raise TenantgateError("the models aren't built: run `tenantgate models build`")
    table = Path(os.environ.get("TENANTGATE_CALIBRATION") or models.CALIBRATION)
    try:
        calibration = Calibration.from_json(table.read_text("utf-8"), where=str(table))
    except OSError as error:
        raise TenantgateError(f"{table}: {error.strerror}") from None
    verifier = files.verifier()
    if calibration.verifier != verifier.fingerprint:
        raise TenantgateError(
            "the calibration was made for another verifier: run `tenantgate cache calibrate`"
        )
    embedder: Embedder = files.embedder() if name == BUILT_IN else models.SentenceTransformerEmbedder(name)
    # The first runs allocate; a request should not wait for that.
    embedder.embed("warm-up")
    verifier.score("warm-up", "warm up")
    return CacheModels(embedder, verifier, calibration)
