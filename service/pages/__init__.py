"""The web pages: server-rendered, one small script of our own, nothing from elsewhere.

They show what the API gives and file what it takes; everything they do is done by the same functions as its calls.
"""
