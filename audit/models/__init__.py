"""Base and fine-tuned model in memory: loading, anatomy, placement, and running parts of them."""
