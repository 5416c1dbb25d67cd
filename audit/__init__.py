"""The science of an audit. ``audit.run.run_audit`` composes it; ``audit.spec`` and ``audit.report`` are torch-free."""
