"""Webhooks: signing messages, sending them to addresses that others chose, and doing so until they arrive."""
