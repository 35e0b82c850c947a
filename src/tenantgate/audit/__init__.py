"""Audit log: one record a request, personal data redacted, delivered to the operator's systems."""
