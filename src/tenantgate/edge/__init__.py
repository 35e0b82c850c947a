"""What touches the world: Redis, models, files."""
