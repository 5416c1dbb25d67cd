"""Benign libraries over HTTP."""
