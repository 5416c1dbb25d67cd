"""Figures in prose: between markers, computed from the committed records."""
