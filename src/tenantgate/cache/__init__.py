"""The semantic cache's decisions: pure functions over frozen data."""
