"""Routing: the order in which a request tries its model's targets, by health, limits, load, price and affinity."""
