"""What every process of the server shares: how it logs."""
