"""The migrations of the ledger's schema, run by ``jobs.database.schema``."""
