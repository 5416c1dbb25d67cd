"""The report: its tables, its provenance and its sentences."""
