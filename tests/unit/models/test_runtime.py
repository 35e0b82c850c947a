"""ONNX Runtime writes nothing of its own on the machine, and so sends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = """\
from onnx import TensorProto, helper
from tenantgate.models.runtime import onnx_runtime
ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", *ends)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
print(onnx_runtime().InferenceSession(model.SerializeToString()).run(None, {"x": [1.0]}))
"""


def test_no_telemetry(tmp_path: Path) -> None:
    given = {name: value for name, value in os.environ.items() if name not in ("CI", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", RUN], env={**given, "HOME": str(tmp_path)}, check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nobody_imports_it_otherwise() -> None:
    source = Path(__file__).parents[3] / "src" / "tenantgate"
    found = {p.name for p in source.rglob("*.py") if "import onnxruntime" in p.read_text(encoding="utf-8")}
    assert found == {"runtime.py"}
