"""The command ``backdoor-audit`` and a small typed HTTP client."""
