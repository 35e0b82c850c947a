"""Keys of clients: issued, rotated and revoked. Only their hashes are kept."""
