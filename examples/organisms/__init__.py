"""Model organisms: small fine-tunes with a known backdoor, and benign controls made by the same recipe."""
