"""Tenantgate: tenant-scoped AI plugins for Kong Gateway OSS."""

__version__ = "0.2.0"
