"""Placeholder of the branch: the store's engineer writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from tenantgate.tenant import TenantId

T = TypeVar("T")


class Directory(Generic[T]):
    def __init__(self, path: Path, parse: Callable[[str, bytes], T], *, node: str = "") -> None:
        self.ready = False

    def get(self, tenant: TenantId) -> T | None:
        return None
