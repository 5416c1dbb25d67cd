"""Bundles that are signed with an identity instead of a key, by sigstore's own library and services.

Signing asks the identity's issuer, a certificate authority and a log: those of the public instance, or of one's own,
which a trust configuration (``--trust-config``, as of the command ``sigstore``) names. Verifying asks nobody.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from backdoor_audit.attestations.errors import BadAttestation, BadSignature, MissingExtra
from backdoor_audit.client.errors import Unreachable, WrongUsage
from backdoor_audit.contract.attestation import STATEMENT_MEDIA_TYPE

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig


def sign(statement: bytes, token: str | None, trust_config: Path | None) -> bytes:
    """Sign a statement; gives a bundle, as JSON.

    Args:
        statement: as the service gave it.
        token: an OpenID Connect identity token; None for the one that this machine's CI runner offers.
        trust_config: file that names the services to ask; None for the public instance.

    Raises:
        MissingExtra: the extra ``sigstore`` is not installed.
        WrongUsage: there is no identity, or it is not accepted.
        Unreachable: one of the services did not answer as it should.
    """
    try:
        from sigstore.dsse import Statement
        from sigstore.oidc import IdentityError, IdentityToken, detect_credential
        from sigstore.sign import SigningContext
    except ImportError:
        raise MissingExtra("sigstore") from None
    try:
        token = token or detect_credential()
        if token is None:
            raise WrongUsage(
                "this machine offers no identity to sign with",
                hint="run it in a CI job that may ask for an identity token, or set SIGSTORE_ID_TOKEN",
            )
        identity = IdentityToken(token)
    except IdentityError as error:
        raise WrongUsage(f"the identity token is not accepted: {error}") from error
    config = _config(trust_config, offline=False)
    try:
        with SigningContext.from_trust_config(config).signer(identity) as signer:
            return signer.sign_dsse(Statement(statement)).to_json().encode()
    except Exception as error:  # the library has no tree of errors, and passes on those of its connections
        raise Unreachable(f"sigstore did not sign: {error}") from error


def verified_payload(bundle: bytes, identity: str, issuer: str | None, trust_config: Path | None) -> bytes:
    """The statement in a bundle that somebody with this identity has signed.

    Args:
        bundle: JSON.
        identity: who must have signed, such as a workflow's address.
        issuer: who must have vouched for that; None for anybody.
        trust_config: file with the keys of the instance that was used; None for the public one.

    Raises:
        MissingExtra: the extra ``sigstore`` is not installed.
        BadAttestation: this is no bundle of a statement.
        BadSignature: it is not signed by this identity, or was changed since.
    """
    try:
        from sigstore.errors import VerificationError
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity
    except ImportError:
        raise MissingExtra("sigstore") from None
    try:
        read = Bundle.from_json(bundle)
    except (InvalidBundle, ValueError):
        raise BadAttestation("it is no sigstore bundle") from None
    verifier = Verifier(trusted_root=_config(trust_config, offline=True).trusted_root)
    try:
        kind, payload = verifier.verify_dsse(read, Identity(identity=identity, issuer=issuer))
    except VerificationError as error:
        raise BadSignature(f"it is not signed by {identity}: {error}") from None
    if kind != STATEMENT_MEDIA_TYPE:
        raise BadAttestation(f"its payload is not {STATEMENT_MEDIA_TYPE}")
    return bytes(payload)


def _config(path: Path | None, *, offline: bool) -> "ClientTrustConfig":
    from sigstore.models import ClientTrustConfig

    try:
        if path is None:
            return ClientTrustConfig.production(offline=offline)
        return ClientTrustConfig.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WrongUsage(f"the trust configuration cannot be used: {error}") from error
    except Exception as error:  # of the library's updater, which passes on those of its connections
        raise Unreachable(f"sigstore's trust configuration could not be fetched: {error}") from error
