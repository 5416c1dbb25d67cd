"""Untrusted text, text files, and the formatting of numbers."""
