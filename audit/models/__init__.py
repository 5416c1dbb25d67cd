"""Base and fine-tuned model in memory: loading, parts, placement, and running parts of them."""
