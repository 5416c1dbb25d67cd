"""The language that client and server share: spec, report, verdicts. Needs only pydantic."""
