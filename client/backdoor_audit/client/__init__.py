"""The HTTP client of the service, blocking and asynchronous."""
