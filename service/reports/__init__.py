"""A report in the forms that people and other tools read: SARIF, JUnit, Markdown, one HTML page. Torch-free.

Each form is a function of a :class:`service.reports.subject.Subject` alone: the same report gives the same bytes.
"""
