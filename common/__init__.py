"""What every process of the server shares: settings, logs, polling loops."""
