"""The register of keys, and what it means for a Kong: pure functions."""
