"""Egress lists beyond the gateway: as rules of the network, and against the audit log."""
