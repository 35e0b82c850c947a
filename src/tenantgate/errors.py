"""The exceptions of Tenantgate.

Their messages may be logged, so they never hold a prompt, a reply, a credential or matched text.
Foreign exceptions are wrapped at the edge where they occur.
"""

__all__ = ["ConfigError", "EdgeError", "TenantgateError"]


class TenantgateError(Exception):
    """Base of all errors that Tenantgate raises on purpose; its message is safe to show."""


class ConfigError(TenantgateError):
    """Configuration that can't be used; the message names the field and the value's problem."""


class EdgeError(TenantgateError):
    """Something outside failed (Redis, a model, a provider); names the part, never its data."""
