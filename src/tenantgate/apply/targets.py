"""The Kongs that an apply changes: by the Admin API, with a database or without one, or by a file and a reload."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import yaml

from tenantgate.apply.admin_api import AdminApi
from tenantgate.apply.core.drift import Schema, Schemas, schema_name
from tenantgate.apply.core.entities import KINDS, Entity, State, beside, from_tree, state_of, to_tree
from tenantgate.apply.core.plan import Plan
from tenantgate.config import plain_yaml
from tenantgate.config.merge import merge, without_ours
from tenantgate.errors import ConfigError, EdgeError

__all__ = ["DatabaseKong", "DblessKong", "FileKong", "Target", "connect"]

Pause = Callable[[], object]
_PROPAGATION_S: Final = 15.0
"""Where a Kong doesn't tell its own times: its defaults (kong/templates/kong_defaults.lua), and as much again."""
_RELOAD_S: Final = 120
_KONG_CONFS: Final = ("/etc/kong/kong.conf", "/etc/kong.conf")
"""Where Kong looks (kong/conf_loader/constants.lua in 3.9.3)."""
_HASHED: Final = "basicauth_credentials"
_OF_TENANTS: Final = ("consumers", "keyauth_credentials")
_MANY: Final = 50
_AT_ONCE: Final = 8
_TOP_LEVEL: Final = re.compile(r"^([a-zA-Z_]+):", re.MULTILINE)
_PATHS: Final[Mapping[str, str]] = {kind: kind for kind in KINDS} | {"keyauth_credentials": "key-auths"}
_OWNERS: Final = ("certificate", "service", "route", "consumer")


class Target(ABC):
    """One Kong, or one file for some. All methods raise `EdgeError` if it can't be read or changed."""

    name: str
    """For messages."""
    whole: bool
    """Whether the configuration is replaced as a whole."""

    @abstractmethod
    def read(self) -> State:
        """What it has."""

    @abstractmethod
    def settle(self, plan: Plan) -> None:
        """Create what is new, and change what differs."""

    def withdraw(self, plan: Plan, pause: Pause = lambda: None) -> None:
        """Delete what is gone, where `settle` hasn't done so; `pause` waits between routes and what serves them."""
        del plan, pause

    def schemas(self, entities: Iterable[Entity]) -> Schemas:
        """The schemas of these, where the Kong tells them."""
        del entities
        return {}

    def propagation_s(self) -> float:
        """Seconds after which all workers of all nodes go by what was changed."""
        return 0.0

    def due(self, plan: Plan) -> bool:
        """Whether `settle` or `withdraw` has anything to do."""
        return not plan.empty


class _Admin(Target):
    def __init__(self, api: AdminApi) -> None:
        self.name = api.url
        self._api = api

    def read(self) -> State:
        return state_of(_entity(kind, item) for kind in KINDS for item in self._api.listed(_PATHS[kind]))

    def schemas(self, entities: Iterable[Entity]) -> Schemas:
        """The schemas of these; none of those that an older Kong hasn't."""
        found: dict[str, Schema] = {}
        for name in sorted({schema_name(e) for e in entities}):
            answer = self._api.find(f"/schemas/{name}")
            if answer is not None:
                found[name] = tuple(answer.get("fields") or ())
        # A plugin's own schema says what differs from that of all plugins.
        general = self._api.find("/schemas/plugins") or {}
        return {
            name: _with_general(fields, general.get("fields") or ())
            if name.startswith("plugins/")
            else fields
            for name, fields in found.items()
        }


def _with_general(fields: Schema, general: Schema) -> Schema:
    own = {name for field in fields for name in field}
    return (*fields, *(field for field in general if not own & field.keys()))


def _entity(kind: str, item: Mapping[str, Any]) -> Entity:
    # A certificate's names are entities of their own.
    left = ("id", "created_at", "updated_at", *(("snis",) if kind == "certificates" else ()))
    made = {k: v for k, v in item.items() if k not in left}
    for owner in (*_OWNERS, "consumer_group"):
        if isinstance(made.get(owner), Mapping):
            made[owner] = made[owner]["id"]
    return Entity(kind=kind, id=str(item["id"]), fields=made)


class DatabaseKong(_Admin):
    """A Kong with a database: each entity by itself. What isn't ours stays."""

    whole = False

    def settle(self, plan: Plan) -> None:
        """Create and change entities, and take keys from their former tenants before others get them."""
        self._each(self._put, plan.settle)
        self._each(self._delete, plan.freed)
        self._each(self._put, plan.admit)

    def withdraw(self, plan: Plan, pause: Pause = lambda: None) -> None:
        """Delete what is gone: a service and its plugins when no worker has a route to them any more."""
        last = plan.unserved
        self._each(self._delete, [entity for entity in plan.withdraw if entity not in last])
        if last:
            pause()
        self._each(self._delete, last)

    def propagation_s(self) -> float:
        """By its settings, if it tells them, and a second more for the work itself."""
        settings = (self._api.find("/") or {}).get("configuration") or {}
        names = ("db_update_frequency", "db_update_propagation", "worker_state_update_frequency")
        times = [settings.get(name) for name in names]
        known = [float(t) for t in times if isinstance(t, int | float)]
        return sum(known) + 1.0 if len(known) == len(names) else _PROPAGATION_S

    def _each(self, do: Callable[[AdminApi, Entity], None], entities: Sequence[Entity]) -> None:
        """One after the other; of tenants, which don't depend on one another, several at once.

        Kong answers each when the database has written it to disk, and ten thousand tenants are 20,000 requests.
        """
        for kind, same_kind in groupby(entities, key=lambda e: e.kind):
            some = list(same_kind)
            if kind not in _OF_TENANTS or len(some) < _MANY:
                for entity in some:
                    do(self._api, entity)
                continue
            connections: SimpleQueue[AdminApi] = SimpleQueue()
            for _ in range(_AT_ONCE):
                connections.put(self._api.another())

            def one(entity: Entity, free: SimpleQueue[AdminApi] = connections) -> None:
                api = free.get()
                try:
                    do(api, entity)
                finally:
                    free.put(api)

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                try:
                    for _ in pool.map(one, some):
                        pass
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
            while not connections.empty():
                connections.get().close()

    @staticmethod
    def _put(api: AdminApi, entity: Entity) -> None:
        body = {k: {"id": v} if k in _OWNERS and v else v for k, v in entity.fields.items()}
        if entity.kind == "certificates" and (before := api.find(f"/certificates/{entity.id}")):
            # Without them Kong takes all names from it, and clients get its fallback certificate.
            body["snis"] = before.get("snis") or []
        api.send("PUT", f"/{_PATHS[entity.kind]}/{entity.id}", body, what=f"{entity.kind} {entity.name}")

    @staticmethod
    def _delete(api: AdminApi, entity: Entity) -> None:
        api.send("DELETE", f"/{_PATHS[entity.kind]}/{entity.id}", what=f"{entity.kind} {entity.name}")


class DblessKong(_Admin):
    """A Kong without a database: ``POST /config`` with the whole configuration, which Kong takes in one step."""

    whole = True

    def settle(self, plan: Plan) -> None:
        """Give it the whole new configuration, and with it again what Kong has of other kinds."""
        if self.due(plan):
            tree = to_tree(plan.wanted) | self._beside()
            self._api.send("POST", "/config", tree, what="the configuration")

    def _beside(self) -> dict[str, Any]:
        text = self._api.get("/config").get("config")
        if not isinstance(text, str):
            raise EdgeError(
                f"Kong {self.name}: GET /config: no configuration, so what isn't ours would be lost"
            )
        # Ten thousand tenants take seconds to parse, and hardly a Kong has anything else.
        if set(_TOP_LEVEL.findall(text)) <= {*KINDS, "_format_version", "_transform"}:
            return {}
        found = beside(parsed(text, f"Kong {self.name}: GET /config"))
        if found.get(_HASHED):
            raise ConfigError(
                f"Kong {self.name} has {_HASHED}, of which it tells hashes only: POST /config would take these for the "
                "passwords. Use --kong-config with --into and --reload in place of --admin-url"
            )
        return found


class FileKong(Target):
    """A kong.yml for Kongs without a database, and a command after which they read it.

    Client keys are in the file, so it is its owner's alone. A file beside it, named as it with ``.reload``, is there
    while the command is still to be run for what the file says, so that a cut-off apply is finished by the next one.
    With `into`, a kong.yml of one's own, its entities are in the file, too.
    """

    whole = True

    def __init__(self, path: Path, reload: str | None, into: Path | None = None) -> None:
        if reload is not None and _forgets_the_file(reload):
            raise ConfigError(
                f"--reload: {reload}: add -c and Kong's kong.conf, or Kong keeps the configuration that it has"
            )
        self._into = into
        self.name = str(path)
        self._path = path
        self._reload = reload
        self._pending = path.with_name(f"{path.name}.reload")

    def read(self) -> State:
        """The file's entities, with `into` those with our tag; none if there is no file."""
        found = from_tree(_tree_of(self._path))
        return state_of(found if self._into is None else (e for e in found if e.ours))

    def settle(self, plan: Plan) -> None:
        """Write the new file."""
        if not plan.empty or not self._path.exists() or self._others_differ():
            ours = to_tree(plan.wanted) | (beside(_tree_of(self._path)) if self._into is None else {})
            self._write(ours if self._into is None else merge(_tree_of(self._into, must=True), ours))
        elif self._pending.exists():
            self._run()

    def due(self, plan: Plan) -> bool:
        """Whether the file changes, or the last change isn't read yet."""
        return super().due(plan) or self._pending.exists() or not self._path.exists() or self._others_differ()

    def _others_differ(self) -> bool:
        if self._into is None:
            return False
        there, own = (without_ours(_tree_of(path)) for path in (self._path, self._into))
        names = (there.keys() | own.keys()) - {"_format_version"}
        return any((there.get(name) or []) != (own.get(name) or []) for name in names)

    def _write(self, tree: Mapping[str, Any]) -> None:
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            if self._reload:
                self._pending.touch(mode=0o600)
            # JSON is YAML, and is written and read faster.
            with open(part, "w", encoding="utf-8", opener=_for_owner) as out:
                json.dump(tree, out, indent=1, ensure_ascii=False)
                out.flush()
                os.fsync(out.fileno())
            part.replace(self._path)
        except OSError as error:
            raise EdgeError(f"{self._path}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)
        self._run()

    def _run(self) -> None:
        if not self._reload:
            return
        try:
            done = subprocess.run(
                shlex.split(self._reload), capture_output=True, text=True, timeout=_RELOAD_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            raise EdgeError(f"--reload: {self._reload}: {type(error).__name__}") from error
        if done.returncode != 0:
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise EdgeError(f"--reload: {self._reload}: {said[-1] if said else f'status {done.returncode}'}")
        self._pending.unlink(missing_ok=True)


def _forgets_the_file(reload: str) -> bool:
    """Whether Kong would go on without `declarative_config`, and say nothing.

    It takes that from `-c`, from its default files or from the environment, never from what it was started with
    (kong/cmd/reload.lua in 3.9.3).
    """
    try:
        words = shlex.split(reload)
    except ValueError:
        return False
    if len(words) < 2 or Path(words[0]).name != "kong" or words[1] != "reload":
        return False
    given = any(word in ("-c", "--conf") or word.startswith("--conf=") for word in words)
    return not (given or os.environ.get("KONG_DECLARATIVE_CONFIG") or any(map(os.path.exists, _KONG_CONFS)))


def _tree_of(path: Path, *, must: bool = False) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError) and not must:
            return {"_format_version": "3.0"}
        raise EdgeError(f"{path}: can't be read") from error
    return parsed(text, str(path))


def _for_owner(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_EXCL, 0o600)


def parsed(text: str, where: str) -> dict[str, Any]:
    """The tree of a kong.yml, which may be JSON."""
    try:
        tree = json.loads(text) if text.startswith("{") else plain_yaml.read(text)
    except (ValueError, yaml.YAMLError):
        raise ConfigError(f"{where}: isn't a kong.yml") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: isn't a kong.yml")
    return tree


def connect(url: str) -> DatabaseKong | DblessKong:
    """The Kong behind an Admin API."""
    api = AdminApi(url)
    # `GET /` would say so, too, but Kong 3.9.3 answers it with 500 where a plugin server has a start command.
    return DblessKong(api) if "configuration_hash" in api.get("/status") else DatabaseKong(api)
