"""Rate limits: requests of a tenant, of one of its keys and for one of its models, counted in one call to Redis."""
