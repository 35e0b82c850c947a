"""Usage as entries, and what is made of them: pure functions over frozen data."""
