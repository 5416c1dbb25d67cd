"""Things to try the service on."""
