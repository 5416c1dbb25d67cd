"""The service under load: many queued audits, several workers, many clients that poll."""
