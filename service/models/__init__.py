"""Models over HTTP: listing, uploading, deleting."""
