"""The register of issued keys, a file beside tenants.yaml: whose, which hash, which state. Pure.

    next ──▶ active ──▶ retiring until T ──▶ gone

Kong accepts a key in each state but the last. A tenant's keys have names, and a name has at most one key that is next
and one that is active; a rotation makes a second key under the same name. A key that is gone stays in the register, so
that its hash can't come back and records of the audit log can still be told whose they are.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tenantgate.api_keys import DIGEST
from tenantgate.errors import ConfigError, TenantgateError
from tenantgate.tenant import TenantId

__all__ = ["IssuedKey", "Register", "State"]

_VERSION: Final = 1
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FIELDS: Final = {"name", "sha256", "state", "issued", "until"}


class State(enum.StrEnum):
    """Where in its life a key is."""

    NEXT = "next"  # made by a rotation; clients change to it
    ACTIVE = "active"
    RETIRING = "retiring"  # accepted until a time
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """One key, without the key.

    Attributes:
        tenant: whose it is.
        name: of the tenant's choice, such as ``ci``.
        sha256: digest of the key, 64 hexadecimal digits.
        state: its state.
        issued: when, Unix seconds.
        until: of a key that is retiring, when Kong refuses it, Unix seconds; of one that is gone, since when.
    """

    tenant: TenantId
    name: str
    sha256: str
    state: State
    issued: int
    until: int | None = None

    def accepted(self, now: float) -> bool:
        """Whether Kong accepts it at that Unix time."""
        return self.state is not State.GONE and not (
            self.state is State.RETIRING and self.until is not None and self.until <= now
        )


@dataclass(frozen=True, slots=True)
class Register:
    """All issued keys, in the order in which they were issued. Methods give a new register."""

    keys: tuple[IssuedKey, ...] = ()

    @classmethod
    def parsed(cls, text: str, where: str) -> Register:
        """The register of a file's text.

        Raises:
            ConfigError: it is none; names the tenant and the field, and starts with `where`.
        """
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            raise ConfigError(f"{where}: isn't JSON") from None
        if not isinstance(tree, dict) or tree.get("version") != _VERSION:
            raise ConfigError(f"{where}: version: must be {_VERSION}")
        tenants = tree.get("tenants")
        if not isinstance(tenants, dict) or not all(isinstance(v, list) for v in tenants.values()):
            raise ConfigError(f"{where}: tenants: must be lists of keys by the tenants' ids")
        found = [
            _key(tenant, item, f"{where}: tenants.{tenant}[{i}]")
            for tenant, items in tenants.items()
            for i, item in enumerate(items)
        ]
        owners: dict[str, IssuedKey] = {}
        for key in found:
            if owners.setdefault(key.sha256, key) is not key:
                raise ConfigError(f"{where}: tenants.{key.tenant}: {key.name}: sha256: stands there twice")
        found.sort(key=lambda key: key.issued)
        firsts: dict[tuple[TenantId, str, State], IssuedKey] = {}
        for key in found:
            first = firsts.setdefault((key.tenant, key.name, key.state), key)
            if key.state in (State.NEXT, State.ACTIVE) and first is not key:
                raise ConfigError(
                    f"{where}: tenants.{key.tenant}: {key.name}: state: {key.state} twice; one of them at most"
                )
        return cls(tuple(found))

    def text(self) -> str:
        """The file's text."""
        tenants: dict[str, list[dict[str, Any]]] = {}
        for key in sorted(self.keys, key=lambda key: (str(key.tenant), key.name, key.issued)):
            shown = {"name": key.name, "sha256": key.sha256, "state": str(key.state), "issued": key.issued}
            tenants.setdefault(str(key.tenant), []).append(
                shown if key.until is None else {**shown, "until": key.until}
            )
        return json.dumps({"version": _VERSION, "tenants": tenants}, indent=1, ensure_ascii=False) + "\n"

    def of(self, tenant: TenantId, name: str | None = None) -> tuple[IssuedKey, ...]:
        """A tenant's keys that aren't gone; those of one name, if one is given."""
        return tuple(
            key
            for key in self.keys
            if key.tenant == tenant and name in (None, key.name) and key.state is not State.GONE
        )

    def by_tenant(self) -> Mapping[str, tuple[IssuedKey, ...]]:
        """`of` each tenant that has some, by its id: one look at the keys, of which there may be thousands."""
        out: dict[str, list[IssuedKey]] = {}
        for key in self.keys:
            if key.state is not State.GONE:
                out.setdefault(str(key.tenant), []).append(key)
        return {tenant: tuple(keys) for tenant, keys in out.items()}

    def issue(self, tenant: TenantId, name: str, sha256: str, *, now: int) -> Register:
        """With a first key of a name.

        Raises:
            ConfigError: the name isn't one, or has a key.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"--name: {name[:70]!r}: small letters, digits and hyphens, 63 at most")
        if self.of(tenant, name):
            raise ConfigError(f"--name: {tenant} has a key {name} already")
        return self._with(tenant, name, sha256, State.ACTIVE, now)

    def rotate(self, tenant: TenantId, name: str, sha256: str, *, now: int) -> Register:
        """With a next key beside the active one.

        Raises:
            ConfigError: the name has no active key, or has a next one.
        """
        if self._one(tenant, name, State.ACTIVE) is None:
            raise ConfigError(f"{tenant} has no active key {name}")
        if self._one(tenant, name, State.NEXT) is not None:
            raise ConfigError(f"{tenant} has a next key {name} already")
        return self._with(tenant, name, sha256, State.NEXT, now)

    def finish(self, tenant: TenantId, name: str, *, until: int) -> Register:
        """The next key becomes active, and the active one retires.

        Raises:
            ConfigError: the name has no next key.
        """
        if self._one(tenant, name, State.NEXT) is None:
            raise ConfigError(f"{tenant} has no next key {name}")

        def moved(key: IssuedKey) -> IssuedKey:
            if key.state is State.NEXT:
                return replace(key, state=State.ACTIVE)
            return replace(key, state=State.RETIRING, until=until) if key.state is State.ACTIVE else key

        return self._changed(lambda key: key.tenant == tenant and key.name == name, moved)

    def revoke(self, chosen: Iterable[IssuedKey], *, now: int) -> Register:
        """These keys are gone."""
        hashes = {key.sha256 for key in chosen}
        return self._changed(
            lambda key: key.sha256 in hashes and key.state is not State.GONE,
            lambda key: replace(key, state=State.GONE, until=now),
        )

    def swept(self, *, now: int) -> Register:
        """Keys whose time is up are gone."""
        return self._changed(
            lambda key: key.state is State.RETIRING and not key.accepted(now),
            lambda key: replace(key, state=State.GONE),
        )

    def _one(self, tenant: TenantId, name: str, state: State) -> IssuedKey | None:
        return next((key for key in self.of(tenant, name) if key.state is state), None)

    def _with(self, tenant: TenantId, name: str, sha256: str, state: State, now: int) -> Register:
        key = IssuedKey(tenant=tenant, name=name, sha256=sha256, state=state, issued=now)
        return Register((*self.keys, key))

    def _changed(
        self, wanted: Callable[[IssuedKey], bool], change: Callable[[IssuedKey], IssuedKey]
    ) -> Register:
        return Register(tuple(change(key) if wanted(key) else key for key in self.keys))


def _key(tenant: str, item: Any, where: str) -> IssuedKey:
    if not isinstance(item, Mapping) or item.keys() - _FIELDS:
        raise ConfigError(f"{where}: must have {', '.join(sorted(_FIELDS))} and nothing else")
    try:
        owner = TenantId(tenant)
    except (TenantgateError, ValueError):
        raise ConfigError(f"{where}: isn't below a tenant's id") from None
    name, sha256, state = item.get("name"), item.get("sha256"), item.get("state")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}.name: small letters, digits and hyphens, 63 at most")
    if not isinstance(sha256, str) or not re.fullmatch(DIGEST, sha256):
        raise ConfigError(f"{where}.sha256: must be 64 hexadecimal digits")
    if state not in tuple(State):
        raise ConfigError(f"{where}.state: must be one of {', '.join(State)}")
    issued, until = _seconds(item.get("issued"), f"{where}.issued"), item.get("until")
    until = None if until is None else _seconds(until, f"{where}.until")
    if until is None and state == State.RETIRING:
        raise ConfigError(f"{where}.until: required of a key that is retiring")
    return IssuedKey(tenant=owner, name=name, sha256=sha256, state=State(state), issued=issued, until=until)


def _seconds(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 40:
        raise ConfigError(f"{where}: must be a Unix time in seconds")
    return value
