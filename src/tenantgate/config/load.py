"""Read tenants.yaml, or a folder of such files: all problems at once, each with its line, field and what is right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from tenantgate import features, fields
from tenantgate.config import catalog, egress, model, money, vaults, yaml_nodes
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.node_reader import NodeReader, SectionMemo, join
from tenantgate.config.sources import Source, sources
from tenantgate.errors import ConfigError
from tenantgate.keys.core.register import Register
from tenantgate.manifest import PluginManifest

__all__ = ["TenantsFileError", "load", "load_text", "located", "register", "register_path"]

_EXPLAINED: Final = 200_000
"""Characters of a text for which PyYAML's own, slow parser is asked: it says more of what is wrong than libyaml."""


class TenantsFileError(ConfigError):
    """A tenants.yaml with problems; `problems` are lines of ``file:line: field: what``."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load(path: Path) -> model.TenantsFile:
    """The checked contents of the file at `path`, or of all files of the folder there.

    A folder ``tenants.d`` beside a file ``tenants.yaml`` belongs to it (`tenantgate.config.sources`).

    Raises:
        TenantsFileError: with all problems.
        ConfigError: the file or folder can't be read.
    """
    return _with_issued(_load(sources(path), name=str(path)), path)


def located(path: Path, found: Iterable[tuple[int, str, str]]) -> list[str]:
    """Problems of a file or folder that is right in itself as lines of ``file:line: field: what``.

    Args:
        path: as for `load`.
        found: the number of a tenant, the path of a field in it, and what is wrong.
    """
    loading = _Loading(sources(path), name=str(path), noting=True)
    loading.file()
    loading.add(found)
    return loading.problems()


def register_path(path: Path) -> Path:
    """Where the keys are that were issued for the tenants of the file or folder at `path`: beside it, or in it."""
    return path / "keys.json" if path.is_dir() else path.with_suffix(".keys.json")


def register(path: Path) -> Register:
    """The issued keys for the tenants of the file or folder at `path`; an empty register where there is no file.

    Raises:
        ConfigError: it can't be read, or isn't one.
    """
    at = register_path(path)
    try:
        text = at.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Register()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{at}: can't be read ({type(error).__name__})") from None
    return Register.parsed(text, str(at))


def _with_issued(file: model.TenantsFile, path: Path) -> model.TenantsFile:
    """The file with the keys of its tenants. Those of tenants that it hasn't open nothing."""
    found = register(path).by_tenant()
    keys = {t.id: issued for t in file.tenants if (issued := found.get(t.id))}
    return replace(file, keys=keys) if keys else file


def load_text(text: str, *, name: str = "tenants.yaml") -> model.TenantsFile:
    """As `load`, from one file's text; `name` is what problems call it."""
    return _load([Source(name, text)], name=name)


def _load(found: Sequence[Source], *, name: str) -> model.TenantsFile:
    loading = _Loading(found, name, noting=False)
    if (file := loading.file()) is not None:
        return file
    # The lines of most values are never asked for, so they are noted only where something is wrong.
    loading = _Loading(found, name, noting=True)
    loading.file()
    raise TenantsFileError(loading.problems())


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part of the whole stands: a file's reader, and the path there."""

    reader: NodeReader
    path: str

    def __str__(self) -> str:
        return f"{self.path} in {self.reader.name}:{self.reader.line(self.path)}"


class _Loading:
    """One reading of all files."""

    def __init__(self, found: Sequence[Source], name: str, *, noting: bool) -> None:
        self._sources = found
        self._name = name
        sections: SectionMemo = {}
        self._readers = [NodeReader(s.name, noting=noting, sections=sections) for s in found]
        self._shared: dict[str, _Place] = {}  # "gateway" and "defaults"
        self._tenants: list[_Place] = []
        self._blamed: set[tuple[str, int, str]] = set()

    def problems(self) -> list[str]:
        """All problems, file by file, in the order of each file."""
        return [text for r in self._readers for _, text in sorted(r.problems, key=lambda p: p[0])]

    def add(self, found: Iterable[tuple[int, str, str]]) -> None:
        """Note problems of tenants: their numbers, the paths in them, and what is wrong."""
        for number, path, what in found:
            place = self._tenants[number]
            place.reader.add(None, join(place.path, path), what)

    def file(self) -> model.TenantsFile | None:
        """The whole, or None where there are `problems`."""
        given: dict[str, Any] = {}
        tenants: list[model.Tenant] = []
        for reader, source in zip(self._readers, self._sources, strict=True):
            part = self._part(reader, source)
            if part is not None:
                self._share(reader, part, given)
                tenants += self._own(reader, part)
        if self._wrong:
            return None
        if not tenants:
            where = f"{self._name}:1" if len(self._sources) == 1 else self._name
            self._readers[0].problems.append((1, f"{where}: tenants: required: {_TENANTS.spec.description}"))
            return None
        file = model.TenantsFile(version=1, **given, tenants=tuple(tenants))
        self._check_unique(file)
        if not self._wrong:
            self._check_plugins(file)
            self._check_whole(egress.problems(file))
            self._check_whole(money.problems(file))
            self._check_vaults(file)
            self._check_named_tenants(file)
        return None if self._wrong else file

    @property
    def _wrong(self) -> bool:
        return any(reader.problems for reader in self._readers)

    def _share(self, reader: NodeReader, part: model.FilePart, given: dict[str, Any]) -> None:
        """Take what holds for all tenants, which one file may have."""
        for name in ("gateway", "defaults"):
            if (value := getattr(part, name)) is not None:
                first = self._shared.setdefault(name, _Place(reader, name))
                if first.reader is not reader:
                    reader.add(None, name, f"is {first} already; it is for all files")
                given.setdefault(name, value)

    def _own(self, reader: NodeReader, part: model.FilePart) -> Iterator[model.Tenant]:
        for i, tenant in enumerate(part.tenants):
            self._tenants.append(_Place(reader, f"tenants[{i}]"))
            yield tenant
        if part.tenant is not None:
            self._tenants.append(_Place(reader, "tenant"))
            yield part.tenant

    @property
    def _gateway(self) -> NodeReader:
        return self._shared["gateway"].reader if "gateway" in self._shared else self._readers[0]

    def _part(self, reader: NodeReader, source: Source) -> model.FilePart | None:
        if isinstance(source.text, ConfigError):
            reader.problems.append((0, str(source.text)))
            return None
        try:
            node = yaml_nodes.compose(source.text)
            if node is None:
                reader.add(None, "", "is empty; it needs version, and tenants")
                return None
            return reader.read(model.FilePart, node, "")
        except (yaml.YAMLError, ValueError) as error:
            # What was found before is about a text that isn't what its author thinks.
            reader.problems = [_not_yaml(source.name, source.text, error)]
            return None

    def _check_unique(self, file: model.TenantsFile) -> None:
        """Ids and keys belong to one tenant."""
        ids: dict[str, _Place] = {}
        keys: dict[str, _Place] = {}
        for place, tenant in zip(self._tenants, file.tenants, strict=True):
            if (first := ids.setdefault(tenant.id, place)) is not place:
                what = f"{tenant.id!r} is the id of {self._named(first, place)} already"
                place.reader.add(None, join(place.path, "id"), what)
            for k, key in enumerate(tenant.api_keys):
                at = _Place(place.reader, f"{place.path}.api_keys[{k}]")
                name = placeholders.names(key)[0]
                if (first := keys.setdefault(name, at)) is not at:
                    what = f"{name} is {self._named(first, at)} already; each key belongs to one tenant"
                    at.reader.add(None, at.path, what)

    def _check_whole(self, found: Iterable[egress.EgressProblem | money.MoneyProblem]) -> None:
        """What must hold between parts of the file."""
        for problem in found:
            if problem.tenant is not None:
                place = self._tenants[problem.tenant]
            else:
                place = self._shared[problem.path.partition(".")[0]]
                place = _Place(place.reader, "")
            at = join(place.path, problem.path)
            place.reader.add(None, at, problem.what)

    def _check_vaults(self, file: model.TenantsFile) -> None:
        for reader, source in zip(self._readers, self._sources, strict=True):
            for line, path, what in vaults.unknown(str(source.text), file.gateway.vaults):
                reader.add(line, path, what)

    def _check_named_tenants(self, file: model.TenantsFile) -> None:
        """The gateway's sections name tenants that there are: a sink of a misspelt one would get nothing."""
        ids = {tenant.id for tenant in file.tenants}
        for section, made in file.gateway.plugins.items():
            for path, name in _named_tenants(made, f"gateway.{section}"):
                if name not in ids:
                    near = difflib.get_close_matches(name, ids, n=1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    self._gateway.add(None, path, f"no tenant is called {name!r}{hint}")

    @staticmethod
    def _named(first: _Place, second: _Place) -> str:
        return first.path if first.reader is second.reader else str(first)

    def _check_plugins(self, file: model.TenantsFile) -> None:
        """The plugins' settings hold together for each model, and with the gateway's."""
        plugins = features.sections()
        filled = {p.name: p.fill(catalog.settings(file.gateway, "route", p)) for p in plugins}
        # Equal sections are one object, so that each combination is checked once.
        known: dict[tuple[str, int, int, int], list[str]] = {}
        for place, tenant in zip(self._tenants, file.tenants, strict=True):
            for k, m in enumerate(tenant.models):
                for plugin in plugins:
                    levels = [level.plugins.get(plugin.section) for level in (file.defaults, tenant, m)]
                    if levels == [None, None, None]:
                        continue
                    key = (plugin.name, id(levels[0]), id(levels[1]), id(levels[2]))
                    found = known.get(key)
                    if found is None:
                        found = known[key] = list(_problems(plugin, levels, filled[plugin.name]))
                    for what in found:
                        self._blame(plugin.section, levels, place, k, what)
        sections = [file.defaults.plugins, *(tenant.plugins for tenant in file.tenants)]
        sections += [m.plugins for tenant in file.tenants for m in tenant.models]
        for plugin in plugins if file.gateway.access_log else ():
            if plugin.journal and any(plugin.section in found for found in sections):
                self._gateway.add(None, "gateway.access_log", plugin.journal.instead)
        keepers = [plugin.section for plugin in plugins if plugin.journal]
        if file.gateway.alerts.receivers and not any(k in found for k in keepers for found in sections):
            what = "alerts are events of the audit log: give a tenant, or defaults, the section audit"
            self._gateway.add(None, "gateway.alerts.receivers", what)

    def _blame(
        self, section: str, levels: Sequence[Mapping[str, Any] | None], tenant: _Place, k: int, what: str
    ) -> None:
        """Note a problem of a model's settings where they stand, once for all models."""
        where = f"{tenant.path}.models[{k}]"
        defaults = self._shared.get("defaults", tenant)
        places = [defaults, tenant, _Place(tenant.reader, where)]
        having = [(at, level) for at, level in zip(places, levels, strict=True) if level is not None]
        field = what.partition(":")[0].partition(".")[0].partition("[")[0]
        place = ([at for at, level in having if field in level] or [having[-1][0]])[-1]
        reader, at = place.reader, join(place.path, section)
        # With several levels another one may have made it a problem.
        among = f" (beside what {where} has of {section} from elsewhere)" if len(having) > 1 else ""
        line = reader.line(join(at, what.partition(":")[0]))
        if (reader.name, line, what) not in self._blamed:
            self._blamed.add((reader.name, line, what))
            reader.add(line, at, what + among)


_TENANTS: Final = fields.fields_of(model.FilePart)["tenants"]


def _problems(
    plugin: PluginManifest[Any], levels: Sequence[Mapping[str, Any] | None], filled: Mapping[str, Any]
) -> Iterator[str]:
    """The problems of a model's settings of a plugin, as ``field: what``."""
    merged = {k: v for level in levels for k, v in (level or {}).items()}
    if not merged.pop("enabled", True):
        return
    where = plugin.section
    try:
        config: Any = fields.build(plugin.config_class, {**merged, **filled}, where=where, strict=True)
    except ConfigError as error:
        yield str(error).removeprefix(f"{where}: ").removeprefix(f"{where}.")
    else:
        yield from (f"{at}: {what}" for at, what in plugin.problems(config))


def _named_tenants(made: Any, path: str) -> Iterator[tuple[str, str]]:
    """Values of fields `tenants`, at any depth of a section, and where they stand."""
    for f in fields.fields_of(type(made)).values():
        value, at = getattr(made, f.attribute), f"{path}.{f.name}"
        if isinstance(f.shape, fields.Record) and value is not None:
            yield from _named_tenants(value, at)
        elif isinstance(f.shape, fields.Many):
            for i, one in enumerate(value or ()):
                if isinstance(f.shape.element, fields.Record):
                    yield from _named_tenants(one, f"{at}[{i}]")
                elif f.name == "tenants":
                    yield f"{at}[{i}]", one


def _not_yaml(name: str, text: str, error: Exception) -> tuple[int, str]:
    if len(text) <= _EXPLAINED and not isinstance(
        error, yaml.composer.ComposerError
    ):  # ours says what is wrong
        try:
            yaml.compose(text, Loader=yaml.SafeLoader)
        except (yaml.YAMLError, RecursionError) as own:
            error = own if isinstance(own, yaml.MarkedYAMLError) else error
    if not isinstance(error, yaml.MarkedYAMLError):
        return 1, f"{name}:1: isn't YAML"
    line = error.problem_mark.line + 1 if error.problem_mark else 1
    return line, f"{name}:{line}: isn't YAML: {error.problem}"
