"""Where checkpoints come from besides the local disk: hub repositories and MLflow's model registry."""
