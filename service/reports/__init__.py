"""Formats of a report for people and other tools: SARIF, JUnit, Markdown, one HTML page. Torch-free.

Each format depends only on a :class:`service.reports.subject.Subject`: the same report gives the same bytes.
"""
