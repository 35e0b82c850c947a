"""Prices and costs in whole numbers: pure functions over frozen data."""
