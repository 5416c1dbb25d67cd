"""Why something could not be signed or verified.

::

    ClientError
    └── WrongUsage            the call itself is wrong (exit 4)
        └── MissingExtra      a library is not installed
    AttestationError
    ├── BadAttestation        the file is no attestation of an audit, or its digests contradict one another
    └── BadSignature          the signature is not that of this key or identity
"""

from backdoor_audit.client.errors import WrongUsage


class MissingExtra(WrongUsage):
    """A library that signing needs is not installed."""

    def __init__(self, extra: str) -> None:
        super().__init__(
            "signing and verifying need a library that is not installed",
            hint=f"pip install 'backdoor-audit[{extra}]', or pip install './client[{extra}]' in a checkout",
        )


class AttestationError(Exception):
    """An attestation does not prove what it should."""


class BadAttestation(AttestationError):
    """The file is no attestation of an audit."""


class BadSignature(AttestationError):
    """The signature is not that of this key or identity."""
