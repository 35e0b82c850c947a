"""Named like a real module, with deferred annotations and a dataclass: both trip kong-pdk's loader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import redis


@dataclass
class Config:
    url: str = "redis://localhost"
    kinds: ClassVar[list[str]] = []


class Plugin:
    def __init__(self, config):
        self.config = Config(config.get("url", "none"))

    def access(self, kong):
        kong.response.set_header("x-client", redis.Redis.__name__ + " " + self.config.url)


Schema = []
version = "0.1.0"
priority = 1
