"""The sandbox: one process per attempt, behind walls, the only one that opens checkpoints and imports torch."""
