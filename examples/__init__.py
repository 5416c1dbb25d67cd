"""Examples for trying out the service."""
