"""What a process keeps for its features: Redis, encryption per tenant, background threads, shared objects."""
