"""Options that commands share, and those that make a spec."""
