"""Creates the client that a command uses, with the address from the options and the key from the environment."""

import os

import typer

from backdoor_audit.client.blocking import AuditClient


def connect(context: typer.Context) -> AuditClient:
    """A client of the service. There is no option for the key, because ``ps`` would show it."""
    return AuditClient(context.obj, api_key=os.environ.get("BACKDOOR_AUDIT_API_KEY"))
