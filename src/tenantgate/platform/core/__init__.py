"""Pure parts: entries of the platform's list, signatures of webhooks, the intake of usage."""
