"""The seed paper's table, reproduced on a smaller model and compared with models in which there is nothing to find."""
