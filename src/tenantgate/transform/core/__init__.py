"""What becomes of a request: pure functions over its body."""
