"""The seed paper's table, made again on a smaller model and beside models that have nothing to find."""
