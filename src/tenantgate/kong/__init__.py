"""The plugin runtime: what a plugin file needs, and the hardened server that runs it.

A plugin is a class that kong-pdk could load, too. Its name in Kong is the file's, here ``tenant-semantic-cache.py``:

    from tenantgate import __version__
    from tenantgate.cache.config import CacheConfig
    from tenantgate.cache.manifest import CACHE
    from tenantgate.kong import TenantPlugin, kong_fields

    version, priority, Schema = __version__, CACHE.priority, kong_fields(CACHE.config_class)

    class Plugin(TenantPlugin[CacheConfig], manifest=CACHE):
        ...
"""

from tenantgate.kong.host import Answered, DeadlineError, Headers, Host, PdkMisuseError, verdict_key
from tenantgate.kong.plugin import TenantPlugin
from tenantgate.kong.schema import kong_fields

__all__ = [
    "Answered",
    "DeadlineError",
    "Headers",
    "Host",
    "PdkMisuseError",
    "TenantPlugin",
    "kong_fields",
    "verdict_key",
]
