"""ONNX Runtime, without its telemetry."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["onnx_runtime"]


def onnx_runtime() -> Any:
    """The package `onnxruntime`, for whoever runs a model.

    The one from PyPI for Linux (1.32) writes an identifier of the machine into the user's home, and has an address of
    its maker to send events to, unless this variable is set before the package is imported;
    `disable_telemetry_events` comes too late.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime
