"""API keys over HTTP and, as ``python -m service.keys``, in the ledger itself."""
