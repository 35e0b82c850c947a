"""A running gateway as the end-to-end tests use it."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tenantgate import config
from tenantgate.config import deck_variables as placeholders
from tenantgate.devhost.client import Client
from tenantgate.devhost.mock_control import MockControl
from tenantgate.devhost.stack import Stack

from support import until

MODEL = "mock-small"


class Running(MockControl):
    """A gateway that somebody else started with the suite's tenants; clients' keys are in the environment.

    It can be asked, but its processes and files are out of reach: a test that wants them is skipped.
    """

    def __init__(self, tenants: Path, url: str, *, mock_url: str | None, redis_url: str | None) -> None:
        self._file = config.load(tenants)
        self._url, self._mock_url, self._redis_url = url.rstrip("/"), mock_url, redis_url

    def url(self, *, tenant: str, provider: str, model: str) -> str:
        prefix = self._file.gateway.path_prefix
        return self._url + config.chat_path(tenant=tenant, provider=provider, model=model, prefix=prefix)

    def key(self, tenant: str) -> str:
        keys = next(t.api_keys for t in self._file.tenants if t.id == tenant)
        return os.environ[placeholders.names(keys[0])[0]]

    @property
    def mock_url(self) -> str:
        return self._mock_url.rstrip("/") if self._mock_url else pytest.skip("needs --mock-url")

    @property
    def redis_url(self) -> str:
        return self._redis_url or pytest.skip("needs --redis-url")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Stack, name):
            raise AttributeError(name)
        pytest.skip(f"{name}: only where the tests start the gateway themselves")


@dataclass(frozen=True)
class Gateway:
    """A running gateway, and a way to ask something nobody asked before."""

    stack: Stack | Running
    numbers: Iterator[int]

    def client(self, tenant: str, *, key_of: str | None = None) -> Client:
        url = self.stack.url(tenant=tenant, provider="mock", model=MODEL)
        return Client(url=url, key=self.stack.key(key_of or tenant), model=MODEL)

    def endpoint(self, tenant: str, path: str = "/v1/chat/completions") -> Client:
        """The tenant's client of the endpoint that all tenants share, or of another path."""
        client = self.client(tenant)
        return Client(urllib.parse.urljoin(client.url, path), client.key, client.model)

    def fresh(self, question: str = "What does part number {n} of the catalogue cost?") -> str:
        return question.replace("{n}", str(next(self.numbers)))

    def engines(self) -> list[int]:
        """The engine's processes: the one that watches over the others, and those that serve."""
        return self.stack.pids("tenantgate")

    def serving(self) -> int:
        """How many of the engine's processes take events."""
        return self.stack.serving("tenantgate")

    def whole_again(self, serving: int) -> None:
        """Wait until as many take events: one that still loads refuses what rules block, and the next test asks."""
        until(self.serving, lambda n: n >= serving, what="engine's processes")

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.stack.redis_url)
