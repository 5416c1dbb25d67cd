"""Options that commands share, and those that form a spec."""
