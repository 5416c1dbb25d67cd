"""``python -m client`` is the command ``backdoor-audit``."""

from client.main import app

if __name__ == "__main__":
    app()
