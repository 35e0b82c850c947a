"""Pure parts of the policy directory: records, lookups, differences; no I/O, clock or randomness."""
