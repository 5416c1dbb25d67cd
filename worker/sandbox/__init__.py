"""The sandbox: one process per attempt, the only process that opens checkpoints and imports torch, behind walls."""
