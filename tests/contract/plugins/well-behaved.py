"""A plugin as ours are: runs the same under Tenantgate's server and under kong-pdk's.

Without deferred annotations, as kong-pdk can't load a dataclass that has them.
"""

from tenantgate.fields import config_class, field
from tenantgate.kong import Host, TenantPlugin, kong_fields
from tenantgate.manifest import PluginManifest


@config_class
class Config:
    on_error: str = field("What happens when the plugin fails.", default="pass", one_of=("pass", "reject"))
    mode: str = field("What the access phase does.", default="tag")
    deadline_ms: int = field("Time for a phase.", default=1000, gt=0, unit="ms")


class Service:
    def __init__(self, config: Config) -> None:
        self.config = config

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

    def log(self, host: Host) -> None:
        host.put_verdict("logged", {"status": host.record().get("status")})


MANIFEST = PluginManifest(
    name="well-behaved",
    section="well_behaved",
    description="A plugin of the tests.",
    priority=794,
    phases=("access", "log"),
    config_class=Config,
    service="tests:Service",
)


class Plugin(TenantPlugin[Config], manifest=MANIFEST):
    def service(self) -> Service:
        return Service(self.config)


version, priority, Schema = "1.2.3", MANIFEST.priority, kong_fields(Config)
