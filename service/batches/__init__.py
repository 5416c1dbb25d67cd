"""Batches of audits: one spec, many models or pairs."""
