"""Read tenants.yaml: every problem at once, each with its line, its field and what would be right."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import yaml

from tenantgate import fields
from tenantgate.config import catalog, model, placeholders, spelling
from tenantgate.config.providers import PROVIDERS
from tenantgate.errors import ConfigError
from tenantgate.store.config import cluster_problem

__all__ = ["InvalidTenantsFile", "load", "load_text"]

T = TypeVar("T")
_MAX_DEPTH: Final = 32
# Headers that hold keys, or that HTTP needs.
_TAKEN: Final = frozenset(
    "apikey authorization connection content-encoding content-length content-type cookie host proxy-authorization "
    "set-cookie te transfer-encoding upgrade".split()
)
# Beside them, what a provider takes for a credential, and what Kong or ai-proxy sets.
_OURS: Final = frozenset(
    "accept-encoding api-key anthropic-version expect via x-api-key x-goog-api-key x-real-ip".split()
)
_PERIODS: Final = ("per_second", "per_minute", "per_hour", "per_day")


class InvalidTenantsFile(ConfigError):  # noqa: N818 - it says what is wrong, as ConfigError does
    """A tenants.yaml with problems; `problems` are lines of ``file:line: field: what``."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load(path: Path) -> model.TenantsFile:
    """The checked contents of the file at `path`.

    Raises:
        InvalidTenantsFile: with all problems.
        ConfigError: the file can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: isn't UTF-8 (byte {error.start})") from error
    return load_text(text, name=str(path))


def load_text(text: str, *, name: str = "tenants.yaml") -> model.TenantsFile:
    """As `load`, from the file's text; `name` is what problems call it."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidTenantsFile([f"{name}:{line}: isn't YAML: {error.problem}"]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidTenantsFile([f"{name}:1: isn't YAML"]) from error
    reader = _Reader(name)
    if node is None:
        reader.add(None, "", "is empty; it needs version, and tenants")
        reader.stop()
    file = reader.read(model.TenantsFile, node, "")
    if not reader.problems:
        assert file is not None  # noqa: S101 - without problems there is a result
        reader.check_file(file)
    if reader.problems or file is None:
        reader.stop()
    return file


class _Reader:
    """Walks the nodes beside the classes of `model`, noting where each value stands."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: dict[str, int] = {}
        self._plain = _PlainConstructor()
        self.problems: list[tuple[int, str]] = []
        self._blamed: set[tuple[int, str]] = set()

    def add(self, at: yaml.Node | int | None, where: str, what: str) -> None:
        """Note a problem at a node, a line, or the line where `where` stands."""
        line = at if isinstance(at, int) else at.start_mark.line + 1 if at is not None else self._line(where)
        self.problems.append((line, f"{self._name}:{line}: {where}{': ' if where else ''}{what}"))

    def stop(self) -> NoReturn:
        """Raise all problems, in the file's order."""
        raise InvalidTenantsFile([text for _, text in sorted(self.problems, key=lambda p: p[0])])

    def _line(self, where: str) -> int:
        while where and where not in self._lines:
            where = where.rpartition("[" if where.endswith("]") else ".")[0]
        return self._lines.get(where, 1)

    def read(self, cls: type[T], node: yaml.Node, where: str) -> T | None:
        """An instance of `cls`, or None after noting why there is none."""
        if not isinstance(node, yaml.MappingNode):
            self.add(node, where, "must be a mapping: lines of `field: value`")
            return None
        before = len(self.problems)
        self._lines[where] = node.start_mark.line + 1
        sections = catalog.by_section() if model.SECTIONS in fields.specs(cls) else {}
        known = [name for name in fields.specs(cls) if name != model.SECTIONS]
        given: dict[str, Any] = {}
        found: dict[str, dict[str, Any]] = {}
        for key, value in self._items(node, where):
            at = _join(where, key.value)
            self._lines[at] = key.start_mark.line + 1
            if key.value in sections:
                found[key.value] = self._section(sections[key.value], value, at)
            elif key.value not in known:
                self.add(key, at, _unknown(key.value, [*known, *sections]))
            elif not _is_null(value):  # null counts as not given, as in Kong
                given[key.value] = self._field(cls, key.value, value, at)
        for name, (spec, _, default) in fields.specs(cls).items():
            if default is dataclasses.MISSING and name not in given:
                self.add(node, _join(where, name), f"required: {spec.description}")
        if len(self.problems) > before:
            return None
        if found:
            given[model.SECTIONS] = found
        made = cls(**given)
        _CHECKS.get(cls, lambda *_: None)(self, made, where)
        return made

    def _field(self, cls: type, name: str, node: yaml.Node, where: str) -> Any:
        spec, hint, _ = fields.specs(cls)[name]
        hint = _unwrap(hint)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self.read(hint, node, where)
        if typing.get_origin(hint) is tuple:
            return self._list(cls, name, node, where)
        value = self._value(node, where)
        self._scalar(cls, name, value, node, where)
        if spec.referenceable and isinstance(value, str):
            self._secret(value, node, where, vault=True)
        # What the field's own type makes of it (1.0 for 1).
        return hint(value) if hint in (int, float) and isinstance(value, int | float) else value

    def _list(self, cls: type, name: str, node: yaml.Node, where: str) -> tuple[Any, ...]:
        spec, hint, _ = fields.specs(cls)[name]
        if not isinstance(node, yaml.SequenceNode):
            self.add(node, where, "must be a list: one entry a line, each after a hyphen")
            return ()
        for limit, wrong in (("at least", spec.len_min), ("at most", spec.len_max)):
            if wrong is not None and (
                len(node.value) < wrong if limit == "at least" else len(node.value) > wrong
            ):
                self.add(node, where, f"{len(node.value)} entries, takes {limit} {wrong}")
        element = typing.get_args(_unwrap(hint))[0]
        out = []
        for i, child in enumerate(node.value):
            at = f"{where}[{i}]"
            self._lines[at] = child.start_mark.line + 1
            if dataclasses.is_dataclass(element) and isinstance(element, type):
                out.append(self.read(element, child, at))
                continue
            value = self._value(child, at)
            if value is None and not _is_null(child):
                continue  # its problem is noted
            if not isinstance(value, str):
                self.add(child, at, f"must be a text, not {_kind(value)}")
            elif spec.referenceable:
                self._secret(value, child, at, vault=False)
            out.append(value)
        return tuple(out)

    def _scalar(self, cls: type, name: str, value: Any, node: yaml.Node, where: str) -> None:
        spec = fields.specs(cls)[name][0]
        parent, _, _ = where.rpartition(".")
        try:
            fields.parse(_single(cls, name), {name: value}, where=parent, strict=True)
        except ConfigError as error:
            place, _, what = str(error).lstrip(".").partition(": ")
            if spec.one_of and isinstance(value, str):
                what += _did_you_mean(value, spec.one_of)
            if "must be a text" in what and not isinstance(value, list | dict):
                what += " (write it in quotes)"
            if not place.startswith(where):  # the value is secret or nested elsewhere
                place = where
            self.add(self._line(place) if place in self._lines else node, place, what)

    def _section(self, plugin: catalog.CataloguedPlugin, node: yaml.Node, where: str) -> dict[str, Any]:
        """A plugin's settings at one level: `enabled`, and any fields of its class that aren't filled in."""
        cls = plugin.config_class
        filled = set(plugin.filled(model.Gateway(), ""))
        known = [name for name in fields.specs(cls) if name not in filled]
        out: dict[str, Any] = {}
        for key, value in self._items(node, where):
            name, at = key.value, _join(where, key.value)
            self._lines[at] = key.start_mark.line + 1
            if name == "enabled" and name not in known:
                out[name] = self._value(value, at)
                if not isinstance(out[name], bool):
                    self.add(value, at, "must be true or false")
            elif name in filled:
                self.add(key, at, "is filled in from `gateway`; set it there")
            elif name not in known:
                self.add(key, at, _unknown(name, ["enabled", *known]))
            elif not _is_null(value):
                out[name] = self._value(value, at)
                # YAML 1.1's word for false, and one of these.
                if out[name] is False and "off" in fields.specs(cls)[name][0].one_of:
                    out[name] = "off"
                self._scalar(cls, name, out[name], value, at)
                self._secrets(cls, name, out[name], value, at)
        return out

    def _secrets(self, cls: type, name: str, value: Any, node: yaml.Node, where: str) -> None:
        """Refuse secrets in a plugin's field, however deep, that are given as plain values."""
        spec, hint, _ = fields.specs(cls)[name]
        hint = _unwrap(hint)
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            for i, item in enumerate(value if isinstance(value, list) else [value]):
                at = f"{where}[{i}]" if isinstance(value, list) else where
                for key, part in item.items() if isinstance(item, dict) else ():
                    if key in fields.specs(inner):
                        self._secrets(inner, key, part, node, _join(at, key))
        elif (
            spec.referenceable and not spec.match
        ):  # an address, which has a form, may be a secret and may not
            for text in value.values() if isinstance(value, dict) else [value]:
                if isinstance(text, str):
                    self._secret(text, self._line(where), where, vault=True)

    def _secret(self, value: str, node: yaml.Node | int, where: str, *, vault: bool) -> None:
        if placeholders.is_placeholder(value):
            return
        if vault and placeholders.is_vault_reference(value):
            return
        instead = """'${{ env "DECK_NAME" }}'"""
        if vault:
            self.add(
                node, where, f"""a secret given as a plain value; write "{{vault://env/NAME}}" or {instead}"""
            )
        elif placeholders.is_vault_reference(value):
            self.add(node, where, f"Kong reads no vault for the keys of clients; write {instead}")
        else:
            self.add(node, where, f"a secret given as a plain value; write {instead}")

    def _items(self, node: yaml.Node, where: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.add(node, where, "must be a mapping: lines of `field: value`")
            return
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.add(key, where, "the name of a field must be a text")
            elif key.tag.endswith(":merge"):
                self.add(key, where, "YAML's merge key isn't supported; use `defaults`")
            elif key.value in seen:
                self.add(key, _join(where, key.value), f"given twice, first in line {seen[key.value]}")
            else:
                seen[key.value] = line
                yield key, value

    def _value(self, node: yaml.Node, where: str) -> Any:
        before = len(self.problems)
        self._problems(node, where, 0)
        if len(self.problems) > before:
            return None
        try:
            return self._plain.construct_document(node)
        except (yaml.YAMLError, ValueError, RecursionError):
            self.add(node, where, "isn't a value that YAML knows")
            return None

    def _problems(self, node: yaml.Node, where: str, depth: int) -> None:
        """Note problems of a value's spelling, at any depth of it."""
        if depth > _MAX_DEPTH:
            self.add(node, where, "is nested too deeply")
        elif isinstance(node, yaml.MappingNode):
            for key, value in self._items(node, where):
                at = _join(where, key.value)
                self._lines[at] = key.start_mark.line + 1
                self._problems(value, at, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for i, child in enumerate(node.value):
                self._problems(child, f"{where}[{i}]", depth + 1)
        elif isinstance(node, yaml.ScalarNode) and (what := spelling.problem(node)) is not None:
            self.add(node, where, what)

    # What holds between fields.

    def check_model(self, m: model.Model, where: str) -> None:
        """A provider's own needs."""
        provider = PROVIDERS[m.provider]
        if provider.credential and m.credential is None:
            self.add(None, _join(where, "credential"), f"required for {m.provider}")
        if provider.auth_header is None and m.credential is not None:
            self.add(None, _join(where, "credential"), f"{m.provider} takes none")
        if provider.needs_upstream_url and m.upstream_url is None:
            self.add(None, _join(where, "upstream_url"), f"required for {m.provider}")
        if m.upstream_url is not None and spelling.names_no_operation(m.upstream_url):
            what = (
                "ends before the operation; give the full address, such as https://host/v1/chat/completions"
            )
            self.add(None, _join(where, "upstream_url"), what)
        for name in provider.needs:
            if getattr(m, name) is None:
                self.add(None, _join(where, name), f"required for {m.provider}")
        for name in provider.never_sent:
            if getattr(m, name) is not None:
                self.add(
                    None,
                    _join(where, name),
                    f"has no effect: Kong doesn't send it to {m.provider}; take it out",
                )

    def check_rate_limit(self, limit: model.RateLimit, where: str) -> None:
        """Kong wants one period at least, and no shorter one above a longer one."""
        given = [(name, value) for name in _PERIODS if (value := getattr(limit, name)) is not None]
        if not given:
            self.add(None, where, f"needs one of {', '.join(_PERIODS)}")
        for (short, few), (long, many) in itertools.pairwise(given):
            if few > many:
                self.add(None, _join(where, long), f"{many} is less than {short} ({few}); it can't be")

    def check_redis(self, redis: model.Redis, where: str) -> None:
        """One Redis or a cluster, not both."""
        said = cluster_problem(redis.cluster_nodes, redis.host, redis.port, redis.database)
        if said is not None:
            name, _, what = said.partition(": ")
            self.add(None, _join(where, name), what)

    def check_gateway(self, gateway: model.Gateway, where: str) -> None:
        """The request's id is written to logs and sent back, so it has a header that means nothing else."""
        if gateway.correlation_header.lower() in _TAKEN:
            what = "this header has a meaning of its own; take another, such as X-Request-ID"
            self.add(None, _join(where, "correlation_header"), what)
        for i, name in enumerate(gateway.upstream_headers):
            if name.lower() in _TAKEN | _OURS or name.lower().startswith(
                ("x-consumer-", "x-forwarded-", "x-kong-")
            ):
                at = f"{_join(where, 'upstream_headers')}[{i}]"
                self.add(
                    None, at, f"{name} holds a credential, or is set on the way; it can't be the client's"
                )

    def check_tenant(self, tenant: model.Tenant, where: str) -> None:
        """A model is one route, so it stands once."""
        seen: dict[tuple[str, str], int] = {}
        for i, m in enumerate(tenant.models):
            first = seen.setdefault((m.provider, m.model), i)
            if first != i:
                at = f"{where}.models[{i}]"
                self.add(None, at, f"{m.provider} {m.model} is models[{first}] already")

    def check_file(self, file: model.TenantsFile) -> None:
        """Ids and keys belong to one tenant; the plugins' settings hold together."""
        ids: dict[str, int] = {}
        keys: dict[str, str] = {}
        for i, tenant in enumerate(file.tenants):
            where = f"tenants[{i}]"
            first = ids.setdefault(tenant.id, i)
            if first != i:
                self.add(None, f"{where}.id", f"{tenant.id!r} is the id of tenants[{first}] already")
            for k, key in enumerate(tenant.api_keys):
                at = f"{where}.api_keys[{k}]"
                name = placeholders.names(key)[0]
                if keys.setdefault(name, at) != at:
                    self.add(None, at, f"{name} is {keys[name]} already; each key belongs to one tenant")
            for m_at, m in enumerate(tenant.models):
                self._merged(file, tenant, m, f"{where}.models[{m_at}]")

        self._rate_limits(file)
        sections = [file.defaults.plugins, *(tenant.plugins for tenant in file.tenants)]
        sections += [m.plugins for tenant in file.tenants for m in tenant.models]
        if file.gateway.access_log and any("audit" in found for found in sections):
            what = (
                "with an audit log Kong's file-log writes its journal; give gateway.audit a sink of type file"
            )
            self.add(None, "gateway.access_log", what)

    def _rate_limits(self, file: model.TenantsFile) -> None:
        """Kong's rate-limiting must reach what it counts in."""
        limiting, nodes = file.gateway.rate_limiting, file.gateway.redis.cluster_nodes
        limits = [file.defaults.rate_limit, *(t.rate_limit for t in file.tenants)]
        limits += [m.rate_limit for t in file.tenants for m in t.models]
        if limiting.policy == "local" and limiting.redis is not None:
            self.add(None, "gateway.rate_limiting.redis", "isn't used with policy local; give one of the two")
        elif nodes and limiting.policy == "redis" and limiting.redis is None and any(limits):
            what = (
                "Kong's rate-limiting can't use a Redis Cluster; give gateway.rate_limiting a redis of its own, or "
                "policy: local, with which each Kong node counts for itself"
            )
            self.add(None, "gateway.redis.cluster_nodes", what)

    def _merged(self, file: model.TenantsFile, tenant: model.Tenant, m: model.Model, where: str) -> None:
        for plugin in catalog.CATALOG:
            levels = [level.plugins.get(plugin.section) for level in (file.defaults, tenant, m)]
            if not any(level is not None for level in levels):
                continue
            merged = {k: v for level in levels for k, v in (level or {}).items()}
            if merged.pop("enabled", True):
                filled = _without_none(plugin.filled(file.gateway, "route"))
                at = _join(where, plugin.section)
                try:
                    parsed: Any = fields.parse(
                        plugin.config_class, {**merged, **filled}, where=at, strict=True
                    )
                    plugin.check(parsed)
                except ConfigError as error:
                    what = str(error).removeprefix(f"{at}: ").removeprefix(f"{at}.")
                    self._blame(plugin.section, levels, where, what)

    def _blame(self, section: str, levels: Sequence[Mapping[str, Any] | None], where: str, what: str) -> None:
        """Note a problem of a route's settings where they stand in the file, once for all routes."""
        places = ["defaults", where.rpartition(".")[0], where]
        having = [(at, level) for at, level in zip(places, levels, strict=True) if level is not None]
        field = what.partition(":")[0].partition(".")[0].partition("[")[0]
        at = _join(([at for at, level in having if field in level] or [having[-1][0]])[-1], section)
        # With several levels another one may have made it a problem.
        among = f" (beside what {where} has of {section} from elsewhere)" if len(having) > 1 else ""
        line = self._line(_join(at, what.partition(":")[0]))
        if (line, what) not in self._blamed:
            self._blamed.add((line, what))
            self.add(line, at, what + among)


_CHECKS: Final[Mapping[type, Any]] = {
    model.Model: _Reader.check_model,
    model.Gateway: _Reader.check_gateway,
    model.Redis: _Reader.check_redis,
    model.RateLimit: _Reader.check_rate_limit,
    model.Tenant: _Reader.check_tenant,
}


class _PlainConstructor(yaml.constructor.SafeConstructor):
    """Values without dates, which no field here has: ``2023-06-01`` is the text that it looks like."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            node.tag = "tag:yaml.org,2002:str"
        return super().construct_object(node, deep)


@cache
def _single(cls: type, name: str) -> type:
    """A class with the one field `name` of `cls`, so that a value can be checked on its own."""
    hint = fields.specs(cls)[name][1]
    (declared,) = (f for f in dataclasses.fields(cls) if f.name == name)
    alone = dataclasses.field(metadata=declared.metadata, default=None)
    return dataclasses.make_dataclass("Single", [(name, hint, alone)], frozen=True)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value


def _unwrap(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _did_you_mean(word: str, among: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, among, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(word: str, known: Sequence[str]) -> str:
    return "unknown field" + (_did_you_mean(word, known) or f"; known are {', '.join(known)}")


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", bool: "a boolean", type(None): "nothing"}
    return kinds.get(type(value), "a number")
