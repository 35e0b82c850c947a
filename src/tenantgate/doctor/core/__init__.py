"""Judgements of what was found: pure functions, no I/O and no clock."""
