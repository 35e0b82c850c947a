"""Values on their way between Python and Lua."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final

from lupa import luajit21

from tenantgate.devhost import lua
from tenantgate.devhost.pdk_event import PdkError

__all__ = ["SharedContext", "Values"]

_EXACT: Final = 2**53  # Lua's numbers are doubles
_MAX_DEPTH: Final = 1000  # lua-cjson's DEFAULT_ENCODE_MAX_DEPTH


class Values:
    """Conversions for one Lua state. Text is bytes in Lua, and `str` with surrogateescape in Python."""

    def __init__(
        self, runtime: Any, *, null: Any, array_mt: Any, shape: Callable[[Any], tuple[bytes, int]]
    ) -> None:
        self.null = null
        self._runtime = runtime
        self._array_mt = array_mt
        self._shape = shape
        self._setmetatable = runtime.globals()[b"setmetatable"]
        self._is_null = runtime.eval(b"function(null) return function(value) return value == null end end")(
            null
        )

    def to_lua(self, value: Any, *, arrays: bool = False) -> Any:
        """The value in Lua. A None inside of a list or mapping becomes ``ngx.null``.

        Args:
            value: what JSON can hold, text also as bytes, or MISSING for nil.
            arrays: give lists the metatable ``cjson.array_mt``.
        """
        if isinstance(value, str):
            return lua.to_bytes(value)
        return None if value is lua.MISSING or value is None else self._inner(value, arrays)

    def _inner(self, value: Any, arrays: bool) -> Any:
        if isinstance(value, str):
            return lua.to_bytes(value)
        if value is None:
            return self.null
        if isinstance(value, bool | float | bytes):
            return value
        if isinstance(value, int):
            return value if abs(value) <= _EXACT else float(value)
        if isinstance(value, Mapping):
            items = {
                lua.to_bytes(str(k)): self._inner(v, arrays) for k, v in value.items() if v is not lua.MISSING
            }
            return self._runtime.table_from(items)
        if isinstance(value, list | tuple):
            made = self._runtime.table_from([self._inner(v, arrays) for v in value])
            return self._setmetatable(made, self._array_mt) if arrays else made
        raise PdkError(f"a {type(value).__name__} is no value for Lua")

    def to_python(self, value: Any, depth: int = 0) -> Any:
        """The value in Python: a table as a list or dict as cjson would write it, ``ngx.null`` as None.

        Raises:
            PdkError: it holds a function, or is nested too deep.
        """
        if isinstance(value, bytes):
            return lua.from_bytes(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        kind = luajit21.lua_type(value)
        if kind == "userdata" and self._is_null(value):
            return None
        if kind != "table":
            raise PdkError(f"a Lua {kind or 'object'} is no value that can be passed on")
        if depth > _MAX_DEPTH:
            raise PdkError("Cannot serialise, excessive depth")
        shape, length = self._shape(value)
        if shape == b"sparse":
            raise PdkError("Cannot serialise table: excessively sparse array")
        if shape == b"array":
            return [self.to_python(value[i], depth + 1) for i in range(1, length + 1)]
        return {_key(k): self.to_python(v, depth + 1) for k, v in value.items()}


def _key(key: Any) -> str:
    if isinstance(key, bytes):
        return lua.from_bytes(key)
    if isinstance(key, bool) or not isinstance(key, int | float):
        raise PdkError("Cannot serialise table: table key must be a number or string")
    return f"{key:.14g}"


class SharedContext(MutableMapping[str, Any]):
    """``kong.ctx.shared`` of a request for Python: a view of the Lua table, in plain values."""

    def __init__(self, values: Values, table: Any) -> None:
        self._values = values
        self.table = table

    def __getitem__(self, key: str) -> Any:
        value = self.table[lua.to_bytes(key)]
        if value is None:
            raise KeyError(key)
        return self._values.to_python(value)

    def __setitem__(self, key: str, value: Any) -> None:
        self.table[lua.to_bytes(key)] = self._values.to_lua(value)

    def __delitem__(self, key: str) -> None:
        self.table[lua.to_bytes(key)] = None

    def __iter__(self) -> Iterator[str]:
        return (lua.from_bytes(k) for k in self.table if isinstance(k, bytes))

    def __len__(self) -> int:
        return sum(1 for _ in self)
