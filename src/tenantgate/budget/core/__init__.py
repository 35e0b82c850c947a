"""The replay of recorded traffic, and what commands print. Pure."""
