"""The client that a command uses: the address that was asked for, and the key of the environment."""

import os

import typer

from backdoor_audit.client.blocking import AuditClient


def connect(context: typer.Context) -> AuditClient:
    """A client of the address asked for; the key comes from the environment alone, which ``ps`` does not show."""
    return AuditClient(context.obj, api_key=os.environ.get("BACKDOOR_AUDIT_API_KEY"))
