"""Requests as a tenant's policy wants them: parameters, end users, the system prompt's beginning, headers."""
