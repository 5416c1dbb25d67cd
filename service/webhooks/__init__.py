"""Webhooks: signs messages and sends them to addresses chosen by others until they arrive."""
