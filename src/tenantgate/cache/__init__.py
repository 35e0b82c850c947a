"""Semantic cache: answers repeated and reworded questions of a tenant from Redis."""
