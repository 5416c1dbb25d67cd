"""``python -m worker.doctor``: checks everything that the service depends on, and says what to do about it."""
