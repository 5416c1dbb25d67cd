"""Shared by all benchmarks: the machine, set-up, audits of folders, goals."""
