"""The Lua state of the host: LuaJIT with a stand-in for Kong's PDK, as each worker of Kong has one.

Everything runs in the event loop's thread, one phase of one plugin at a time and to its end, so a state needs no
lock of its own. Errors are told by their place; their text only where Lua or the host has written the text, since a
plugin's own may hold a prompt.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from lupa import luajit21

from tenantgate.devhost import lua, vault
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Answer, Exchange, Exited, Held, Phase
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.lua_functions import FUNCTIONS, HIDDEN, METHODS
from tenantgate.devhost.lua_values import SharedContext, Values
from tenantgate.devhost.pdk import KONG_VERSION
from tenantgate.devhost.pdk_event import Event, Function, PdkError
from tenantgate.errors import ConfigError

__all__ = ["LuaError", "LuaState"]

_PLACE: Final = re.compile(r"(?P<place>(?P<chunk>[^\n:]{1,200}):\d+): (?P<message>.*)", re.DOTALL)
_OF_LUA: Final = re.compile(
    r"attempt to (?:index|call|perform arithmetic on|concatenate|get length of) "
    r"(?:(?:local|upvalue|field|method|global) '\w+' \(a \w+ value\)|a \w+ value)"
    r"|attempt to compare (?:two \w+ values|\w+ with \w+)"
    r"|bad argument #\d+ to '(?:\w+|\?)' \(\w+ expected, got [\w ]+\)"
    r"|the embedded host (?:has no|can't set) (?:kong|ngx|cjson)[\w.]*"
    r"|module '[\w./-]+' not found:.*|require '[\w./-]+' not allowed within sandbox"
    r"|Can not modify \w+\.\w+\. Protected by the sandbox\.",
    re.DOTALL,
)


class LuaError(Exception):
    """Lua raised an error: Kong answers 500 in rewrite and access, and closes the connection in filters."""


class LuaState:
    """One LuaJIT state.

    Args:
        log: for what plugins log.
        settings: of kong.conf; heeded are untrusted_lua and untrusted_lua_sandbox_requires.
        package_path: where ``require`` looks, in Lua's form.
        environ: what ``kong.vault.get`` reads.
        dicts: names of ``lua_shared_dict``.
    """

    def __init__(
        self,
        log: KongLog,
        settings: Mapping[str, str] | None = None,
        package_path: str = "",
        environ: Mapping[str, str] | None = None,
        dicts: Sequence[str] = (),
    ) -> None:
        self.log = log
        self._event: Event | None = None
        self._answer: Answer | None = None
        self._told: set[str] = set()
        self._chunks: set[str] = set()
        self._configs: dict[str, Any] = {}
        self._provided: dict[str, Function] = {}
        self._lua = luajit21.LuaRuntime(
            encoding=None,
            source_encoding="utf-8",
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=_nothing_of_python,
        )
        globals_ = self._lua.globals()
        globals_[b"python"] = globals_[b"package"][b"loaded"][b"python"] = None
        self._path = package_path
        self._environ = os.environ if environ is None else environ
        self._secret_files = vault.files(settings or {})
        self._settings = {k: v for k, v in (settings or {}).items() if k.startswith("vault_")}
        self._host = self._load("kong", self._functions())
        modules = self._load(
            "modules",
            self._table(
                {
                    "act_as": self._host[b"act_as"],
                    "attributes": self._attributes,
                    "symlinkattributes": lambda path: self._attributes(path, follow=False),
                    "bound": self._host[b"bound"],
                    "decode": self._decode,
                    "encode": self._encode,
                    "find": self._source,
                    "sha256_hex": _sha256_hex,
                }
            ),
            self._host[b"null"],
        )
        self.values = Values(
            self._lua, null=self._host[b"null"], array_mt=modules[b"array_mt"], shape=modules[b"shape"]
        )
        self._load("content", self._content_functions(dicts), self._host[b"kong"], self._host[b"ngx"])
        self._host[b"seal"]()
        self.matching = modules[b"matching"]
        self.drivers = self._load("drivers", self._host[b"bound_call"])
        globals_[b"kong"], globals_[b"ngx"] = self._host[b"kong"], self._host[b"ngx"]
        self._sandbox = self._load_sandbox(settings or {})
        self.names = frozenset(lua.from_bytes(n) for n in self._host[b"names"]().values())
        self._run, self._filter, self._request = (self._host[n] for n in (b"run", b"filter", b"request"))

    def _load(self, name: str, *arguments: Any) -> Any:
        self._chunks.add(f"{name}.lua")
        file = resources.files("tenantgate.devhost").joinpath("kong_lua", f"{name}.lua")
        return self._lua.compile(file.read_bytes(), name=f"={name}.lua".encode())(*arguments)

    def _load_sandbox(self, settings: Mapping[str, str]) -> Any:
        trust = settings.get("untrusted_lua", "sandbox")
        if trust == "off":
            return None
        if trust not in ("sandbox", "on"):
            raise ConfigError("kong.conf: untrusted_lua: must be one of: off, sandbox, on")
        if settings.get("untrusted_lua_sandbox_environment"):
            raise ConfigError("kong.conf: untrusted_lua_sandbox_environment: the embedded host can't do this")
        modules = settings.get("untrusted_lua_sandbox_requires", "").split(",")
        allowed = self._table({m.strip(): True for m in modules if m.strip()})
        host = self._host
        return self._load("sandbox", host[b"kong"], host[b"ngx"], allowed, trust == "on")

    def _table(self, items: Mapping[str, Any]) -> Any:
        return self._lua.table_from({k.encode(): v for k, v in items.items()})

    def _functions(self) -> Any:
        return self._table(
            {
                "call": self._call,
                "configuration": self._table({k: v.encode() for k, v in self._settings.items()}),
                "log": self._log_line,
                "methods": self._table(METHODS),
                "names": self._lua.table_from([name.encode() for name in [*FUNCTIONS, _VAULT]]),
                "version": KONG_VERSION.encode(),
                "version_num": int("{:d}{:03d}{:03d}".format(*map(int, KONG_VERSION.split(".")))),
            }
        )

    def _content_functions(self, dicts: Sequence[str]) -> Any:
        return self._table(
            {
                "WAIT": self._host[b"WAIT"],
                "clock": time.time,
                "deflate": gzip.compress,
                "dicts": self._lua.table_from([name.encode() for name in dicts]),
                "in_content": self._host[b"in_content"],
                "inflate": _inflated,
                "random": secrets.token_bytes,
            }
        )

    # -- code

    def compile(self, code: str, name: str) -> Any:
        """The code of a plugin's configuration as a function of Kong's sandbox.

        Raises:
            ConfigError: untrusted Lua is off, or the code is no Lua.
        """
        if self._sandbox is None:
            raise ConfigError("loading of untrusted Lua code disabled because 'untrusted_lua' is 'off'")
        self._chunks.add(name)
        made = self._sandbox[b"compile"](lua.to_bytes(code), name.encode())
        if isinstance(made, tuple):
            raise ConfigError(f"error parsing: {lua.from_bytes(made[1])}")
        return made

    def trusted(self, code: str, name: str) -> Any:
        """The code of the operator's own files as a function.

        Raises:
            ConfigError: it is no Lua.
        """
        self._chunks.add(name)
        try:
            return self._lua.compile(lua.to_bytes(code), name=f"={name}".encode())
        except luajit21.LuaSyntaxError as error:
            raise ConfigError(f"error parsing: {error}") from None

    def chain(self, functions: Sequence[Any]) -> Any:
        """One function that runs all of these."""
        return self._sandbox[b"chain"](self._lua.table_from(list(functions)))

    def module(self, name: str) -> Any:
        """The value of ``require``.

        Raises:
            LuaError: as the module's own code raised.
        """
        try:
            return self._lua.globals()[b"require"](name.encode())
        except luajit21.LuaError as error:
            shown = error.args[0] if error.args else b""
            text = lua.from_bytes(shown) if isinstance(shown, bytes) else str(shown)
            raise LuaError(text.partition("\nstack traceback:")[0]) from None

    def find(self, module: str) -> Path | None:
        """The file of a module below the package path."""
        relative = module.replace(".", "/")
        files = (Path(part.strip().replace("?", relative)) for part in self._path.split(";") if part.strip())
        return next((file for file in files if file.is_file()), None)

    def _source(self, module: bytes) -> tuple[bytes, bytes] | None:
        name = module.decode()
        if (file := self.find(name)) is None:
            return None
        # By the module's name: Lua cuts longer ones.
        chunk = name.replace(".", "/") + ".lua"
        self._chunks.add(chunk)
        return file.read_bytes(), chunk.encode()

    def _attributes(self, path: bytes, follow: bool = True) -> Any:
        try:
            at = Path(os.fsdecode(path)).stat(follow_symlinks=follow)
        except (OSError, ValueError):
            return None
        kind = {stat.S_IFREG: b"file", stat.S_IFDIR: b"directory"}.get(stat.S_IFMT(at.st_mode), b"other")
        shown = stat.filemode(at.st_mode)[1:].encode()
        return self._table({"mode": kind, "permissions": shown, "size": at.st_size, "uid": at.st_uid})

    # -- phases

    def run(self, x: Exchange, plugin: str, function: Any, *arguments: Any) -> Any:
        """Run a function in the exchange's phase; its value.

        Raises:
            Exited: ``kong.response.exit`` or ``error``.
            LuaError: names the place.
        """
        self._enter(x, plugin)
        try:
            ended, value = self._run(x.lua, plugin.encode(), function, *arguments)
        finally:
            self._event = None
        if not ended:
            raise self._error(x, value)
        self._leave()
        return value

    def filter(
        self, x: Exchange, plugin: str, chunk: bytes, function: Any, *arguments: Any, last: bool
    ) -> bytes:
        """The same in body_filter: the piece of the body that goes on.

        Raises:
            LuaError: names the place.
        """
        self._enter(x, plugin)
        try:
            ended, made, end = self._filter(x.lua, plugin.encode(), chunk, last, function, *arguments)
        finally:
            self._event = None
        if not ended:
            raise self._error(x, made)
        if end and not last:
            raise LuaError("the embedded host can't end a body before its end")
        return _chunk(made)

    def config(self, conf: PluginConfig) -> Any:
        """A plugin's configuration as a Lua table, the same at each call."""
        if conf.id not in self._configs:
            self._configs[conf.id] = self.values.to_lua(conf.config)
        return self._configs[conf.id]

    def retry(self, x: Exchange) -> str | None:
        """Let the callback of ``set_target_retry_callback``, where there is one, choose the target of another try.

        Args:
            x: in the balancer phase.

        Returns:
            Why there is no other target; None where the request can be sent again.
        """
        if x.lua is None:
            return None
        try:
            return None if self.run(x, "balancer", self._host[b"retry"]) else "it gave none"
        except (Exited, LuaError) as error:
            return str(error)

    def call(self, x: Exchange, plugin: str, function: Any, *arguments: Any) -> Any:
        """The value of a function that a stock plugin's Lua would call: also while Lua waits for the host.

        Raises:
            Exited: ``kong.response.exit`` or ``error``.
            LuaError: names the place.
        """
        if self._event is None or self._event.x is not x:
            return self.run(x, plugin, function, *arguments)
        try:
            return function(*arguments)
        except luajit21.LuaError as error:
            raise self._error(x, error.args[0] if error.args else b"") from None

    def thread(self, function: Any) -> Any:
        """A coroutine for `resume`."""
        return self._host[b"thread"](function)

    def resume(self, x: Exchange, plugin: str, thread: Any, *values: Any) -> tuple[Any, ...] | None:
        """Run a coroutine until it waits: for what; None at its end.

        Raises:
            LuaError: names the place.
        """
        self._enter(x, plugin)
        try:
            ended, wanted = self._host[b"resume"](x.lua, plugin.encode(), thread, *values)
        finally:
            self._event = None
        if not ended:
            raise self._error(x, wanted)
        return None if wanted is None else tuple(wanted.values())

    def provide(self, functions: Mapping[str, Function]) -> None:
        """Functions of a stock plugin, for the modules that stand for its Lua files."""
        self._provided |= functions

    def _enter(self, x: Exchange, plugin: str) -> None:
        if x.lua is None:
            shared = self.values.to_lua(dict(x.shared))
            x.lua = self._request(shared)
            x.shared = SharedContext(self.values, shared)
        self._event = Event(x, self.log, plugin)
        self._told.clear()
        self._answer = None

    def _leave(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            raise Exited(answer)

    def _error(self, x: Exchange, error: Any) -> Exception:
        if isinstance(error, Exception):
            return error  # a fault of the host itself
        phase = x.phase.value
        if not isinstance(error, bytes):
            return LuaError(f"a Lua error that is no text, in {phase}")
        message = lua.from_bytes(error)
        place = "?"
        if (found := _PLACE.fullmatch(message)) and found["chunk"] in self._chunks:
            place, message = found["place"], found["message"]
        if message not in self._told and not _OF_LUA.fullmatch(message):
            message = "an error of the plugin's own"
        return LuaError(f"{place}: {message.partition(chr(10))[0]}, in {phase}")

    # -- what Lua calls

    def _call(self, method: bytes, *arguments: Any) -> tuple[Any, ...]:
        name = method.decode()
        if self._event is None:
            return (self._tell(f"{name} can't be called outside of a request"),)
        try:
            if name in _CTX:
                return (None, self._context(self._event, name, *arguments))
            if name == "response_plugins":
                return (None, self._response_plugins(self._event.x))
            if name == _VAULT:
                return (None, self._secret(*arguments))
            provided = self._provided.get(name)
            function = provided or FUNCTIONS.get(name) or HIDDEN.get(name, _absent)
            value = function(self._event, *map(self.values.to_python, arguments))
            return (None, self.values.to_lua(value, arrays=provided is not None))
        except Exited as exited:
            self._answer = exited.answer
            return (True,)
        except PdkError as error:
            return (self._tell(str(error)),)
        except RecursionError:
            return (self._tell(f"{name}: an argument is nested too deep"),)
        except TypeError:
            return (self._tell(f"{name}: wrong arguments"),)

    def _tell(self, message: str) -> bytes:
        self._told.add(message)
        return lua.to_bytes(message)

    def _secret(self, reference: Any) -> bytes | None:
        if self._event and self._event.x.phase is Phase.BALANCER:
            raise PdkError("kong.vault.get may yield, which balancer_by_lua can't")
        # Kong gives nil and a message.
        try:
            return lua.to_bytes(vault.secret(lua.from_bytes(reference), self._environ, self._secret_files))
        except vault.VaultError:
            return None

    def _context(self, event: Event, name: str, key: Any, value: Any = None) -> Any:
        key, ctx = self.values.to_python(key), event.ctx
        if name == "ngx.ctx.get":
            return self.values.to_lua(ctx.get(key, lua.MISSING))
        if value is None:
            ctx.pop(key, None)
        elif luajit21.lua_type(value) == "table":
            # Read later: what is read while Lua calls belongs to a coroutine that ends.
            ctx[key] = Held(lambda: self.values.to_python(event.x.lua[b"tables"][lua.to_bytes(key)]))
        else:
            ctx[key] = self.values.to_python(value)
        return None

    def _response_plugins(self, x: Exchange) -> Any:
        """The plugins for ``ngx.ctx.plugins.response``; Python sees there those that Lua has taken out of it."""
        given = tuple(x.response_plugins)

        def removed() -> list[str]:
            phase = x.lua[b"tables"][b"plugins"][b"response"]
            left = {lua.from_bytes(phase[i][b"name"]) for i in range(1, phase[0], 2)}
            return [name for name in given if name not in left]

        x.ctx["plugins"] = Held(removed)
        return self.values.to_lua(list(given))

    def _log_line(self, level: bytes, text: bytes) -> None:
        plugin = self._event.plugin if self._event else "lua"
        self.log.write(level.decode(), f"[{plugin}] {lua.from_bytes(text)}")

    def _decode(self, text: Any, arrays: bool) -> tuple[Any, ...]:
        if not isinstance(text, bytes):
            return (b"bad argument #1 to 'decode' (string expected)",)
        value = lua.decode(text)
        if value is lua.MISSING:
            return (b"the text is no JSON",)
        return (None, self.values.null if value is None else self.values.to_lua(value, arrays=arrays))

    def _encode(self, value: Any) -> tuple[Any, ...]:
        try:
            return (None, lua.encode(self.values.to_python(value)))
        except (PdkError, ValueError) as error:
            return (lua.to_bytes(str(error)),)
        except RecursionError:
            return (b"Cannot serialise, excessive depth",)


_CTX: Final = frozenset({"ngx.ctx.get", "ngx.ctx.set"})
_VAULT: Final = "kong.vault.get"


def _sha256_hex(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _nothing_of_python(_object: Any, _name: Any, _setting: bool) -> Any:
    raise AttributeError("Lua sees nothing of Python but what it may call")


def _inflated(data: bytes) -> bytes | None:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError):
        return None


def _absent(_event: Event, *_arguments: Any) -> Any:
    raise PdkError("the embedded host has no ai-proxy here")


def _chunk(value: Any) -> bytes:
    # ngx.arg[1] takes nil, text, and a table of texts (ngx_http_lua_bodyfilterby.c).
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if luajit21.lua_type(value) == "table":
        return b"".join(_chunk(v) for v in value.values())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return lua.encode(value)
    raise LuaError(f"bad chunk data type: {luajit21.lua_type(value) or type(value).__name__}")
