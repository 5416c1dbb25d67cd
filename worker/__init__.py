"""Celery workers and the sandbox in which checkpoints are opened."""
