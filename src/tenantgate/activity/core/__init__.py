"""Sums of audit records for people who run the gateway: pure functions, no I/O and no clock."""
