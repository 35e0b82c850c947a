"""Prompt compression: fewer tokens for the same request."""
