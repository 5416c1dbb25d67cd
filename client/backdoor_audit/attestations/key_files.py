"""Envelopes (DSSE) that are signed and verified with a key in a PEM file, by securesystemslib."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backdoor_audit.attestations.errors import BadAttestation, BadSignature, MissingExtra
from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.attestation import STATEMENT_MEDIA_TYPE

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

_MAKE_A_KEY: Final = "openssl genpkey -algorithm ed25519 -out key.pem"
_PUBLIC_PART: Final = "openssl pkey -in key.pem -pubout -out key.pub.pem"


class EnvelopeSigner:
    """Signs statements with one private key: Ed25519, ECDSA or RSA."""

    def __init__(self, signer: "CryptoSigner") -> None:
        self._signer = signer

    @classmethod
    def load(cls, path: Path, password: str | None = None) -> "EnvelopeSigner":
        """Read a private key from a PEM file.

        Raises:
            WrongUsage: the file cannot be read, holds no private key of a known kind, or asks for another password.
            MissingExtra: the extra ``attest`` is not installed.
        """
        try:
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
            from securesystemslib.signer import CryptoSigner
        except ImportError:
            raise MissingExtra("attest") from None
        try:
            key = load_pem_private_key(_read(path), None if password is None else password.encode())
            return cls(CryptoSigner(key))
        except TypeError:
            raise WrongUsage(
                f"{path} has a password, or has none and was given one",
                hint="set BACKDOOR_AUDIT_KEY_PASSWORD to the key's password, or unset it",
            ) from None
        except ValueError:
            raise WrongUsage(f"{path} holds no private key that can sign", hint=f"make one: {_MAKE_A_KEY}") from None

    def sign(self, statement: bytes) -> bytes:
        """The envelope of a statement, as JSON."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(statement, STATEMENT_MEDIA_TYPE, {})
        envelope.sign(self._signer)
        return json.dumps(envelope.to_dict()).encode()


def verified_payload(envelope: bytes, key: Path) -> bytes:
    """The statement in an envelope that the holder of a key has signed.

    Args:
        envelope: JSON.
        key: PEM file with the public key.

    Raises:
        WrongUsage: the key's file cannot be read, or holds no public key.
        MissingExtra: the extra ``attest`` is not installed.
        BadAttestation: this is no envelope of a statement.
        BadSignature: it is not signed with this key, or was changed since.
    """
    try:
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import FormatError, VerificationError
    except ImportError:
        raise MissingExtra("attest") from None
    public = _public_key(key)
    try:
        read = Envelope.from_dict(_object(envelope))
    except (KeyError, TypeError, ValueError, AttributeError, FormatError):
        raise BadAttestation("it is no signed envelope (DSSE)") from None
    try:
        read.verify([public], 1)
    except VerificationError:
        raise BadSignature(f"it is not signed with the key in {key}, or was changed since") from None
    if read.payload_type != STATEMENT_MEDIA_TYPE:
        raise BadAttestation(f"its payload is not {STATEMENT_MEDIA_TYPE}")
    return bytes(read.payload)


def _public_key(path: Path) -> "SSlibKey":
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    content = _read(path)
    try:
        return SSlibKey.from_crypto(load_pem_public_key(content))
    except ValueError:
        hint = f"its public part: {_PUBLIC_PART}" if b"PRIVATE KEY" in content else "name a PEM file"
        raise WrongUsage(f"{path} holds no public key", hint=hint) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}") from error


def _object(document: bytes) -> dict[str, Any]:
    value = json.loads(document)
    if not isinstance(value, dict):
        raise BadAttestation("it is no JSON object")
    return value
