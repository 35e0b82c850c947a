"""The trained weights that ship with the package."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tenantgate.errors import EdgeError
from tenantgate.guard.core.injection import Weights
from tenantgate.models.shipped import SHIPPED, check

__all__ = ["INJECTION", "injection_weights"]

INJECTION = SHIPPED / "injection.npz"
"""As trained by ``training/train_injection.py``."""


def injection_weights(path: Path | None = None) -> Weights:
    """The weights of the injection model: `path`, ``TENANTGATE_INJECTION_WEIGHTS``, or those of the package.

    Raises:
        EdgeError: there is no such file, or the package's isn't the one that was released.
        ConfigError: it is for another version.
    """
    path = path or Path(os.environ.get("TENANTGATE_INJECTION_WEIGHTS") or INJECTION)
    check(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return Weights.from_arrays({name: file[name] for name in file.files})
    except (OSError, ValueError) as error:
        raise EdgeError(f"injection weights {path}: can't be read ({type(error).__name__})") from None
