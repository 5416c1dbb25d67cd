"""The command ``backdoor-audit``."""
