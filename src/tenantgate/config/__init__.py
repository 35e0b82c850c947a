"""tenants.yaml: its model, its checks, and the Kong configuration that it renders."""

from tenantgate.config.kong_conf import KongConfOptions, egress_conf, kong_conf
from tenantgate.config.load import TenantsFileError, load, load_text
from tenantgate.config.model import TenantsFile
from tenantgate.config.names import chat_path, consumer_name, route_name
from tenantgate.config.render import RenderOptions, render

__all__ = [
    "KongConfOptions",
    "RenderOptions",
    "TenantsFile",
    "TenantsFileError",
    "chat_path",
    "consumer_name",
    "egress_conf",
    "kong_conf",
    "load",
    "load_text",
    "render",
    "route_name",
]
