"""Checkpoints (a reference to a verified local folder) and artifacts (folders written whole or not at all)."""
