"""Guardrails on requests and replies: personal data, secrets, prompt injection, topics, patterns."""
