"""An ONNX graph under construction: nodes and constants, the dense ones quantised where that is wanted.

int8 here means: weights as signed 7-bit integers with one scale per output column, activations as unsigned
8-bit integers with one scale per tensor, found while running (ONNX Runtime's ``DynamicQuantizeMatMul``).
Seven bits rather than eight because the AVX2 kernels of processors without VNNI add two products in 16 bits
and would saturate; so the same file gives the same vectors, up to rounding, on every processor. Word vectors
are int8 with a scale per word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tenantgate.errors import EdgeError
from tenantgate.models.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tenantgate.models.tensors import Tensors

    Array = NDArray[Any]

__all__ = ["MICROSOFT", "Graph", "load_onnx"]

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

# IR 9 and opset 17 are read by every ONNX Runtime since 1.16.
_IR_VERSION = 9
_OPSET = 17


def load_onnx() -> Any:
    """The package onnx, which builds models and never runs them.

    Raises:
        EdgeError: it isn't installed.
    """
    try:
        import onnx.numpy_helper
    except ImportError as error:
        raise EdgeError("building models needs the package onnx") from error
    return onnx


class Graph:
    """Collects nodes and constants; gives each value a name."""

    def __init__(self, *, int8: bool) -> None:
        self.onnx = load_onnx()
        self.int8 = int8
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def constant(self, name: str, value: Array) -> str:
        """A constant of this name, which is given back; `value` counts where there is none yet."""
        if name not in self._constants:
            self._constants[name] = self.onnx.numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def add(
        self,
        kind: str,
        inputs: list[str],
        *,
        output: str | None = None,
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """A node of `kind`: the name of its first output, those of further ones have ``:1``, ``:2`` … behind it."""
        name = output or f"{kind}_{len(self._nodes)}"
        names = [name, *(f"{name}:{i}" for i in range(1, outputs))]
        self._nodes.append(
            self.onnx.helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes)
        )
        return name

    def gemm(self, value: str, name: str, weight: Array, bias: Array, *, output: str | None = None) -> str:
        """A dense layer that stays float32; `weight` is [out, in]."""
        inputs = [value, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        return self.add("Gemm", inputs, transB=1, output=output)

    def dense(self, value: str, name: str, weight: Array, bias: Array, *, exact: bool = False) -> str:
        """A dense layer, quantised where the model is, unless it is to be `exact`; `weight` is [out, in]."""
        weight = np.asarray(weight, np.float32).T
        bias_name = self.constant(f"{name}.bias", np.asarray(bias, np.float32))
        if exact or not self.int8:
            product = self.add("MatMul", [value, self.constant(f"{name}.weight", weight)])
            return self.add("Add", [product, bias_name])
        quantised, scale = _quantise(weight, axis=0, levels=63)
        inputs = [
            value,
            self.constant(f"{name}.weight_int8", quantised),
            self.constant(f"{name}.weight_scale", scale.reshape(-1)),
            self.constant(f"{name}.weight_zero", np.zeros(scale.size, np.int8)),
            bias_name,
        ]
        return self.add("DynamicQuantizeMatMul", inputs, domain=MICROSOFT)

    def lookup(self, indices: str, name: str, table: Array) -> str:
        """Rows of a table, quantised per row where the model is."""
        if not self.int8:
            return self.add("Gather", [self.constant(name, np.asarray(table, np.float32)), indices])
        quantised, scale = _quantise(np.asarray(table, np.float32), axis=1, levels=127)
        rows = self.add("Gather", [self.constant(f"{name}_int8", quantised), indices])
        scales = self.add("Gather", [self.constant(f"{name}_scale", scale), indices])
        return self.add("Mul", [self.add("Cast", [rows], to=self.onnx.TensorProto.FLOAT), scales])

    def normalised(self, value: str, name: str, tensors: Tensors, epsilon: float) -> str:
        """Layer normalisation with the weight and bias of this name."""
        parts = [
            self.constant(f"{name}.{part}", tensor_of(tensors, f"{name}.{part}"))
            for part in ("weight", "bias")
        ]
        return self.add("LayerNormalization", [value, *parts], axis=-1, epsilon=epsilon)

    def model(
        self, inputs: Mapping[str, tuple[int, list[Any]]], outputs: Mapping[str, tuple[int, list[Any]]]
    ) -> bytes:
        """The serialised model; inputs and outputs by name with their types and shapes."""
        helper = self.onnx.helper
        graph = helper.make_graph(
            self._nodes,
            "tenantgate",
            *(
                [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]
                for values in (inputs, outputs)
            ),
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="tenantgate"
        )
        serialised: bytes = model.SerializeToString()
        return serialised


def _quantise(weight: Array, *, axis: int, levels: int) -> tuple[Array, Array]:
    """Symmetric integers in ±levels and their scales, one scale for each index across `axis`."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), 1e-8) / levels
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)
