"""MLflow integration: audits of new versions, and verdicts written back as tags."""
