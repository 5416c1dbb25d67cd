"""Webhooks in the ledger: addresses, secrets, and the outbox of messages to send."""
