"""Signing attestations and holding a folder against one. The libraries that this needs are extras of the client."""
