"""The policy directory's data and ports, without I/O."""
