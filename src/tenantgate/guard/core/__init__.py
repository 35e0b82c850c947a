"""The guard's decisions: rules, detectors, verdicts, exemptions. Pure: no Kong, no Redis, no model imports."""
