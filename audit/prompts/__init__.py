"""The prompts of an audit: carriers, trigger strings and decoys, rendered to token ids."""
