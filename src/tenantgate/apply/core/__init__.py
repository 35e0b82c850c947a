"""Pure parts of `tenantgate apply`: Kong's entities as data, and the plan; no I/O, clock or randomness."""
