"""One attempt at one audit: its lease, its sandbox, its artifacts, and its end."""
