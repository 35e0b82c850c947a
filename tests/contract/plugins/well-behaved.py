"""A plugin as ours are: runs the same under Tenantgate's server and under kong-pdk's.

Without deferred annotations, as kong-pdk can't load a dataclass that has them.
"""

from typing import Any

from tenantgate.fields import config_class, field
from tenantgate.kong import Host, configure, kong_fields, phase


@config_class
class Config:
    on_error: str = field("What happens when the plugin fails.", default="pass", one_of=("pass", "reject"))
    mode: str = field("What the access phase does.", default="tag")
    deadline_ms: int = field("Time for a phase.", default=1000, gt=0, unit="ms")


class Plugin:
    config: Config

    def __init__(self, config: dict[str, Any]) -> None:
        configure(self, Config, config)

    @phase
    def access(self, host: Host) -> None:
        mode = self.config.mode
        if mode == "raise-first":
            raise ValueError("secret text")
        if mode == "exit-first":
            host.answer(403, "no", {"X-Why": "mode"})
        tenant = host.tenant()
        if mode == "raise-later":
            raise ValueError("secret text")
        host.put_verdict(
            "well-behaved", {"tenant": tenant.slug if tenant else None, "bytes": len(host.body())}
        )
        host.set_headers({"X-Echo": host.headers().get("x-in") or ""})
        if mode == "exit":
            host.answer(200, b"whole", {"Content-Type": "text/plain"})

    @phase
    def log(self, host: Host) -> None:
        host.put_verdict("logged", {"status": host.record().get("status")})


Schema = kong_fields(Config)
version = "1.2.3"
priority = 794
