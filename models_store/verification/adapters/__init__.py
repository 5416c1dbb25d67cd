"""LoRA adapters: their configuration, the header of their weights, and the fit to a base."""
