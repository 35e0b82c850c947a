"""Read tenants.yaml: every problem at once, each with its line, its field and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import yaml

from tenantgate import features, fields
from tenantgate.config import catalog, model, spelling
from tenantgate.config import deck_variables as placeholders
from tenantgate.errors import ConfigError
from tenantgate.manifest import PluginManifest

__all__ = ["TenantsFileError", "load", "load_text"]

T = TypeVar("T")
_MAX_DEPTH: Final = 32


class TenantsFileError(ConfigError):
    """A tenants.yaml with problems; `problems` are lines of ``file:line: field: what``."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load(path: Path) -> model.TenantsFile:
    """The checked contents of the file at `path`.

    Raises:
        TenantsFileError: with all problems.
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
        raise TenantsFileError([f"{name}:{line}: isn't YAML: {error.problem}"]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise TenantsFileError([f"{name}:1: isn't YAML"]) from error
    reader = _Reader(name)
    if node is None:
        reader.add(None, "", "is empty; it needs version, and tenants")
        reader.stop()
    file = reader.read(model.TenantsFile, node, "")
    if file is not None and not reader.problems:
        reader.check_plugins(file)
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
        raise TenantsFileError([text for _, text in sorted(self.problems, key=lambda p: p[0])])

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
        known, own = catalog.entries(cls), fields.fields_of(cls)
        given: dict[str, Any] = {}
        sections: dict[str, Any] = {}
        for key, value in self._items(node, where):
            name, at = key.value, _join(where, key.value)
            self._lines[at] = key.start_mark.line + 1
            entry = known.get(name)
            if entry is None:
                self.add(key, at, _unknown(name, list(known)))
            elif isinstance(entry, catalog.Section):
                sections[name] = self._section(entry, value, at)
            elif not _is_null(value):  # null counts as not given, as in Kong
                (given if name in own else sections)[name] = self._field(entry, value, at)
        for f in own.values():
            if f.required and f.name not in given:
                self.add(node, _join(where, f.name), f"required: {f.spec.description}")
        if len(self.problems) > before:
            return None
        made = cls(**given, **({model.SECTIONS: sections} if sections else {}))
        for path, what in getattr(made, "problems", tuple)():
            self.add(None, _join(where, path), what)
        return made

    def _field(self, f: fields.Field, node: yaml.Node, where: str) -> Any:
        if isinstance(f.shape, fields.Record):
            return self.read(f.shape.cls, node, where)
        if isinstance(f.shape, fields.Many):
            return self._list(f.shape, node, where)
        value = self._value(node, where)
        self._check(f.shape, f.spec, value, node, where)
        if f.spec.referenceable and isinstance(value, str):
            self._secret(value, node, where, vault=True)
        if (
            isinstance(f.shape, fields.Scalar)
            and f.shape.type in (int, float)
            and isinstance(value, int | float)
        ):
            return f.shape.type(value)  # 1.0 for 1
        return value

    def _list(self, shape: fields.Many, node: yaml.Node, where: str) -> tuple[Any, ...]:
        spec, element = shape.spec, shape.element
        if not isinstance(node, yaml.SequenceNode):
            self.add(node, where, "must be a list: one entry a line, each after a hyphen")
            return ()
        for limit, wrong in (("at least", spec.len_min), ("at most", spec.len_max)):
            if wrong is not None and (
                len(node.value) < wrong if limit == "at least" else len(node.value) > wrong
            ):
                self.add(node, where, f"{len(node.value)} entries, takes {limit} {wrong}")
        out: list[Any] = []
        for i, child in enumerate(node.value):
            at = f"{where}[{i}]"
            self._lines[at] = child.start_mark.line + 1
            if isinstance(element, fields.Record):
                out.append(self.read(element.cls, child, at))
                continue
            value = self._value(child, at)
            if value is None and not _is_null(child):
                continue  # its problem is noted
            if not isinstance(value, str):
                self.add(child, at, f"must be a text, not {_kind(value)}")
            elif spec.referenceable:
                self._secret(value, child, at, vault=False)
            else:
                self._check(element, spec, value, child, at)
            out.append(value)
        return tuple(out)

    def _check(
        self, shape: fields.Shape, spec: fields.FieldSpec, value: Any, node: yaml.Node, where: str
    ) -> None:
        if value is None:
            return
        try:
            fields.check_value(value, shape, where, strict=True)
        except ConfigError as error:
            place, _, what = str(error).partition(": ")
            if spec.one_of and isinstance(value, str):
                what += _did_you_mean(value, spec.one_of)
            if "must be a text" in what and not isinstance(value, list | dict):
                what += " (write it in quotes)"
            self.add(self._line(place) if place in self._lines else node, place, what)

    def _section(self, section: catalog.Section, node: yaml.Node, where: str) -> dict[str, Any]:
        """A plugin's settings at one level: `enabled`, and any fields of its class that aren't filled in."""
        known = section.fields
        out: dict[str, Any] = {}
        for key, value in self._items(node, where):
            name, at = key.value, _join(where, key.value)
            self._lines[at] = key.start_mark.line + 1
            if name == "enabled" and name not in known:
                out[name] = self._value(value, at)
                if not isinstance(out[name], bool):
                    self.add(value, at, "must be true or false")
            elif name in section.plugin.hidden:
                self.add(key, at, "is filled in from `gateway`; set it there")
            elif name not in known:
                self.add(key, at, _unknown(name, ["enabled", *known]))
            elif not _is_null(value):
                out[name] = self._value(value, at)
                # YAML 1.1's word for false, and one of these.
                if out[name] is False and "off" in known[name].spec.one_of:
                    out[name] = "off"
                self._check(known[name].shape, known[name].spec, out[name], value, at)
                self._secrets(known[name], out[name], value, at)
        return out

    def _secrets(self, f: fields.Field, value: Any, node: yaml.Node, where: str) -> None:
        """Refuse secrets in a plugin's field, however deep, that are given as plain values."""
        inner = f.shape.element if isinstance(f.shape, fields.Many) else f.shape
        if isinstance(inner, fields.Record):
            known = fields.fields_of(inner.cls)
            for i, item in enumerate(value if isinstance(value, list) else [value]):
                at = f"{where}[{i}]" if isinstance(value, list) else where
                for key, part in item.items() if isinstance(item, dict) else ():
                    if key in known:
                        self._secrets(known[key], part, node, _join(at, key))
        # An address, which has a form, may be a secret and may not.
        elif f.spec.referenceable and not f.spec.match:
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

    def check_plugins(self, file: model.TenantsFile) -> None:
        """The plugins' settings hold together on each route, and with the gateway's."""
        for i, tenant in enumerate(file.tenants):
            for k, m in enumerate(tenant.models):
                self._merged(file, tenant, m, f"tenants[{i}].models[{k}]")
        sections = [file.defaults.plugins, *(tenant.plugins for tenant in file.tenants)]
        sections += [m.plugins for tenant in file.tenants for m in tenant.models]
        for plugin in features.plugins() if file.gateway.access_log else ():
            if plugin.journal and any(plugin.section in found for found in sections):
                self.add(None, "gateway.access_log", plugin.journal.instead)

    def _merged(self, file: model.TenantsFile, tenant: model.Tenant, m: model.Model, where: str) -> None:
        for plugin in features.plugins():
            levels = [level.plugins.get(plugin.section) for level in (file.defaults, tenant, m)]
            if any(level is not None for level in levels):
                merged = {k: v for level in levels for k, v in (level or {}).items()}
                if merged.pop("enabled", True):
                    values = {**merged, **plugin.fill(catalog.settings(file.gateway, "route", plugin))}
                    for what in _problems(plugin, values, _join(where, plugin.section)):
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


def _problems(plugin: PluginManifest[Any], values: Mapping[str, Any], where: str) -> Iterator[str]:
    """The problems of a route's settings of a plugin, as ``field: what``."""
    try:
        config: Any = fields.build(plugin.config_class, values, where=where, strict=True)
    except ConfigError as error:
        yield str(error).removeprefix(f"{where}: ").removeprefix(f"{where}.")
    else:
        yield from (f"{at}: {what}" for at, what in plugin.problems(config))


class _PlainConstructor(yaml.constructor.SafeConstructor):
    """Values without dates, which no field here has: ``2023-06-01`` is the text that it looks like."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            node.tag = "tag:yaml.org,2002:str"
        return super().construct_object(node, deep)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where and name else where or name


def _did_you_mean(word: str, among: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, among, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(word: str, known: Sequence[str]) -> str:
    return "unknown field" + (_did_you_mean(word, known) or f"; known are {', '.join(known)}")


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", bool: "a boolean", type(None): "nothing"}
    return kinds.get(type(value), "a number")
