"""Log lines and metrics of the plugin server. Never a prompt, a reply or a credential."""
