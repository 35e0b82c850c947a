"""The plugin runtime: what a plugin file needs, and the hardened server that runs it.

A plugin is a class that kong-pdk could load, too:

    from tenantgate.kong import Host, configure, kong_fields, phase

    class Plugin:
        config: CacheConfig

        def __init__(self, config: dict[str, Any]) -> None:
            configure(self, CacheConfig, config)

        @phase
        def access(self, host: Host) -> None:
            host.set_headers({"X-Tenant": str(host.tenant())})

    Schema = kong_fields(CacheConfig)
    version = "0.1.0"
    priority = 794
"""

from tenantgate.kong.host import Answered, DeadlineError, Headers, Host, PdkMisuseError, verdict_key
from tenantgate.kong.phase import phase
from tenantgate.kong.policy import PhasePolicy, configure
from tenantgate.kong.schema import kong_fields

__all__ = [
    "Answered",
    "DeadlineError",
    "Headers",
    "Host",
    "PdkMisuseError",
    "PhasePolicy",
    "configure",
    "kong_fields",
    "phase",
    "verdict_key",
]
