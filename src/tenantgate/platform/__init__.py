"""The platform that keeps tenants' limits and takes their usage: the mirror of its limits, and a reference server."""
