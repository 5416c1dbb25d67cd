"""``python -m backdoor_audit.cli`` is the command ``backdoor-audit``."""

from backdoor_audit.cli.main import app

if __name__ == "__main__":
    app()
