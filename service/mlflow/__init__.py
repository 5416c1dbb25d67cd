"""MLflow's side of the service: audits of new versions, and verdicts that go back as tags."""
