"""Pure parts of the policy directory: records, ports, lookups, differences; no I/O, clock or randomness."""
