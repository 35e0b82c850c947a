"""Prices of tokens: the book that is compiled into policies, and the cost of a usage."""
