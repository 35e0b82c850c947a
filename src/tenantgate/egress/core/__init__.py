"""Rules for networks, and the check of a log: pure."""
