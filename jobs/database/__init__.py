"""The database of the ledger: connections, schema, tables, stored documents."""
