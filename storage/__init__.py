"""Folders that are written whole or not at all, on a local disk or in an object store. Knows nothing of ours."""
