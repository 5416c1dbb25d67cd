"""The ledger: what was asked, who works on it, how it ended."""
