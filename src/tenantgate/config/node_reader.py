"""One file of tenants.yaml's format, from YAML's nodes to the classes of `model`: problems with their lines."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import yaml

from tenantgate import fields, secret_files
from tenantgate.config import catalog, model, spelling
from tenantgate.config import deck_variables as placeholders
from tenantgate.errors import ConfigError

__all__ = ["NodeReader", "SectionMemo", "join"]

T = TypeVar("T")
_MAX_DEPTH: Final = 32
_STR: Final = "tag:yaml.org,2002:str"


SectionMemo = dict[Any, Any]
"""Mappings that were read without a problem, by their class and content: equal ones become one object, which is
compiled once."""
_APART: Final = frozenset({model.FilePart, model.Tenant})
"""Classes of which no two mappings are equal."""


class NodeReader:
    """Walks the nodes of one file beside the classes of `model`.

    With `noting` it keeps where each value stands, for the problems that are found later. Without, which takes less
    time and memory, problems have no places and only their number counts: whoever finds some reads again with it.
    """

    def __init__(self, name: str, *, noting: bool, sections: SectionMemo) -> None:
        self.name = name
        self.problems: list[tuple[int, str]] = []
        self._noting = noting
        self._sections = sections
        self._scalars: dict[tuple[int, str, str], Any] = {}
        self._lines: dict[str, int] = {}
        self._plain = _PlainConstructor()

    def add(self, at: yaml.Node | int | None, where: str, what: str) -> None:
        """Note a problem at a node, a line, or the line where `where` stands."""
        line = at if isinstance(at, int) else at.start_mark.line + 1 if at is not None else self.line(where)
        self.problems.append((line, f"{self.name}:{line}: {where}{': ' if where else ''}{what}"))

    def line(self, where: str) -> int:
        """The line where a value stands, or what holds it."""
        while where and where not in self._lines:
            where = where.rpartition("[" if where.endswith("]") else ".")[0]
        return self._lines.get(where, 1)

    def _at(self, where: str, name: str, node: yaml.Node) -> str:
        """The path of a field, noted with its line."""
        if not self._noting:
            return ""
        at = join(where, name)
        self._lines[at] = node.start_mark.line + 1
        return at

    def read(self, cls: type[T], node: yaml.Node, where: str) -> T | None:
        """An instance of `cls`, or None after noting why there is none."""
        if self._noting or cls in _APART:
            return self._read(cls, node, where)
        key = cls, _content(node, 0)
        found: T | None = self._sections.get(key)
        if found is None:
            before = len(self.problems)
            found = self._read(cls, node, where)
            if len(self.problems) == before:
                self._sections[key] = found
        return found

    def _read(self, cls: type[T], node: yaml.Node, where: str) -> T | None:
        if not isinstance(node, yaml.MappingNode):
            self.add(node, where, "must be a mapping: lines of `field: value`")
            return None
        before = len(self.problems)
        if self._noting:
            self._lines[where] = node.start_mark.line + 1
        known, own = catalog.entries(cls), fields.fields_of(cls)
        given: dict[str, Any] = {}
        sections: dict[str, Any] = {}
        for key, value in self._items(node, where):
            name, at = key.value, self._at(where, key.value, key)
            entry = known.get(name)
            if entry is None:
                self.add(key, at, _unknown(name, list(known)))
            elif isinstance(entry, catalog.Section):
                sections[name] = self._known_section(entry, value, at)
            elif not _is_null(value):  # null counts as not given, as in Kong
                (given if name in own else sections)[name] = self._field(entry, value, at)
        missing = [f for f in own.values() if f.required and f.name not in given]
        for f in missing:
            self.add(node, join(where, f.name), f"required: {f.spec.description}")
        if len(self.problems) > before:
            return None
        made = {own[name].attribute: value for name, value in given.items()}
        return self._made(cls(**made, **({model.SECTIONS: sections} if sections else {})), where)

    def _made(self, made: T, where: str) -> T:
        """`made`, after noting what doesn't fit together in it."""
        for path, what in getattr(made, "problems", tuple)():
            self.add(None, join(where, path), what)
        return made

    def _field(self, f: fields.Field, node: yaml.Node, where: str) -> Any:
        if isinstance(f.shape, fields.Record):
            return self.read(f.shape.cls, node, where)
        if isinstance(f.shape, fields.Many):
            return self._list(f.shape, node, where)
        if isinstance(node, yaml.ScalarNode) and not f.spec.referenceable:
            return self._scalar(f, node, where)
        return self._checked(f, node, where)

    def _scalar(self, f: fields.Field, node: yaml.ScalarNode, where: str) -> Any:
        """As `_checked`; what was right once is right again."""
        key = id(f), node.tag, node.value
        if (known := self._scalars.get(key)) is not None:
            return known
        before = len(self.problems)
        value = self._checked(f, node, where)
        if len(self.problems) == before:
            self._scalars[key] = value
        return value

    def _checked(self, f: fields.Field, node: yaml.Node, where: str) -> Any:
        before = len(self.problems)
        value = self._value(node, where)
        self._check(f.shape, f.spec, value, node, where)
        if len(self.problems) > before:
            return None
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
        out: list[Any] = []
        for i, child in enumerate(node.value):
            at = self._at(f"{where}[{i}]", "", child)
            if isinstance(element, fields.Record):
                out.append(self.read(element.cls, child, at))
                continue
            value = self._value(child, at)
            if value is None and not _is_null(child):
                out.append(value)
                continue  # its problem is noted
            if not isinstance(value, str):
                self.add(child, at, f"must be a text, not {_kind(value)}")
            elif spec.referenceable:
                self._secret(value, child, at, vault=spec.vault)
            else:
                self._check(element, spec, value, child, at)
            out.append(value)
        count = len(out)
        if spec.len_min is not None and count < spec.len_min:
            self.add(node, where, f"{count} entries, takes at least {spec.len_min}")
        if spec.len_max is not None and count > spec.len_max:
            self.add(node, where, f"{count} entries, takes at most {spec.len_max}")
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
            self.add(self.line(place) if place in self._lines else node, place, what)

    def _known_section(self, section: catalog.Section, node: yaml.Node, where: str) -> dict[str, Any]:
        if self._noting:
            return self._section(section, node, where)
        key = section.plugin.section, _content(node, 0)
        found: dict[str, Any] | None = self._sections.get(key)
        if found is None:
            before = len(self.problems)
            found = self._section(section, node, where)
            if len(self.problems) == before:
                self._sections[key] = found
        return found

    def _section(self, section: catalog.Section, node: yaml.Node, where: str) -> dict[str, Any]:
        """A plugin's settings at one level: `enabled`, and any fields of its class that aren't filled in."""
        known = section.fields
        out: dict[str, Any] = {}
        for key, value in self._items(node, where):
            name, at = key.value, self._at(where, key.value, key)
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
                        self._secrets(known[key], part, node, join(at, key))
        # An address, which has a form, may be a secret and may not.
        elif f.spec.referenceable and not f.spec.match:
            for text in value.values() if isinstance(value, dict) else [value]:
                if isinstance(text, str):
                    self._secret(text, self.line(where), where, vault=True)

    def _secret(self, value: str, node: yaml.Node | int, where: str, *, vault: bool) -> None:
        if placeholders.is_placeholder(value):
            return
        if vault and placeholders.is_vault_reference(value):
            if value.startswith("{vault://file/") and secret_files.parse(value) is None:
                self.add(
                    node, where, "a file is named by letters, digits, '.', '_' and '-': {vault://file/NAME}"
                )
            return
        instead = """'${{ env "DECK_NAME" }}'"""
        if placeholders.names_no_variable(value):
            self.add(node, where, f"the name of a variable here begins with DECK_: {instead}")
        elif vault:
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
                self.add(key, join(where, key.value), f"given twice, first in line {seen[key.value]}")
            else:
                seen[key.value] = line
                yield key, value

    def _value(self, node: yaml.Node, where: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag == _STR:
            if (what := spelling.problem(node)) is not None:
                self.add(node, where, what)
                return None
            return node.value
        before = len(self.problems)
        self._problems(node, where, 0)
        if len(self.problems) > before:
            return None
        try:
            return self._plain.construct_document(node)
        except (yaml.YAMLError, ValueError, KeyError, RecursionError):  # KeyError: `!!bool x`
            self.add(node, where, "isn't a value that YAML knows")
            return None

    def _problems(self, node: yaml.Node, where: str, depth: int) -> None:
        """Note problems of a value's spelling, at any depth of it."""
        if depth > _MAX_DEPTH:
            self.add(node, where, "is nested too deeply")
        elif isinstance(node, yaml.MappingNode):
            for key, value in self._items(node, where):
                at = self._at(where, key.value, key)
                self._problems(value, at, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for i, child in enumerate(node.value):
                self._problems(child, f"{where}[{i}]", depth + 1)
        elif isinstance(node, yaml.ScalarNode) and (what := spelling.problem(node)) is not None:
            self.add(node, where, what)


class _PlainConstructor(yaml.constructor.SafeConstructor):
    """Values without dates, which no field here has: ``2023-06-01`` is the text that it looks like."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            node.tag = "tag:yaml.org,2002:str"
        return super().construct_object(node, deep)


def _content(node: yaml.Node, depth: int) -> Any:
    """What a node says, as something that can be compared; a node nested too deeply is like no other."""
    if isinstance(node, yaml.ScalarNode):
        return node.tag, node.value
    if depth > _MAX_DEPTH:
        return object()
    if isinstance(node, yaml.MappingNode):
        return "{}", node.tag, tuple((_content(k, depth + 1), _content(v, depth + 1)) for k, v in node.value)
    return "[]", node.tag, tuple(_content(child, depth + 1) for child in node.value)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def join(where: str, name: str) -> str:
    """The path of a field in what stands at `where`."""
    return f"{where}.{name}" if where and name else where or name


def _did_you_mean(word: str, among: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, among, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(word: str, known: Sequence[str]) -> str:
    return "unknown field" + (_did_you_mean(word, known) or f"; known are {', '.join(known)}")


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", bool: "a boolean", type(None): "nothing"}
    return kinds.get(type(value), "a number")
