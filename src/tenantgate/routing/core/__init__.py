"""Routing without I/O: circuits, limits of providers, balance, affinity, and the order that they give."""
