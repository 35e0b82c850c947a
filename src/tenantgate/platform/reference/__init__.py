"""A platform that implements docs/platform-api.json, for development and tests: `tenantgate platform-mock`."""
