"""The web pages: rendered on the server, with one small script and nothing loaded from other hosts.

They call the same use cases as the API's routes.
"""
