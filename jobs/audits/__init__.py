"""Audits in the ledger: filing, claiming, progress, and the state machine that all of it obeys."""
