"""The engine: all stages of a request in one plugin, by the policy of its tenant."""
