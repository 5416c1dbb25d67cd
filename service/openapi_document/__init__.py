"""The OpenAPI document: generated from the code, committed, and served as a page."""
