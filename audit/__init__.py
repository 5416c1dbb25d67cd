"""The science of an audit: ``audit.run.run_audit`` composes it. Knows no HTTP, no queue and no database."""
