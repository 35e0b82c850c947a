"""A running gateway as the end-to-end tests use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import redis

from tenantgate.devhost.client import Client
from tenantgate.devhost.stack import Stack

MODEL = "mock-small"


@dataclass(frozen=True)
class Gateway:
    """A running gateway, and a way to ask something nobody asked before."""

    stack: Stack
    numbers: Iterator[int]

    def client(self, tenant: str, *, key_of: str | None = None) -> Client:
        url = self.stack.url(tenant=tenant, provider="mock", model=MODEL)
        return Client(url=url, key=self.stack.key(key_of or tenant), model=MODEL)

    def fresh(self, question: str = "What does part number {n} of the catalogue cost?") -> str:
        return question.replace("{n}", str(next(self.numbers)))

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.stack.redis_url)
