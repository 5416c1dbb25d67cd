"""Measurements on the reference machine; each writes its figures to ``benchmarks/results``."""
