"""One attempt to deliver one message: connect, send, read the status, and summarise the result in a word."""

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpcore
import structlog

from jobs.webhooks.records import AttemptRecord, Outgoing
from service.version import API_VERSION
from service.webhooks import signing
from service.webhooks.addresses import AddressRefused, CheckedBackend, Network, split
from service.webhooks.secrets import SecretBox, UnreadableSecret

MAX_ANSWER_BYTES: Final = 64 * 1024
"""How much of a response's body is read, out of politeness: it is not used."""

_GONE: Final = 410

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``final``: another one would end the same way. ``gone``: the receiver wants no more
    messages.
    """

    attempt: AttemptRecord
    final: bool = False
    gone: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the receiver has accepted the message."""
        return self.attempt.error is None


@dataclass(frozen=True)
class Sender:
    """Sends messages.

    Attributes:
        networks: private ranges that the operator allows.
        timeout_s: maximum duration of one attempt.
        trust: checks the receiver's certificate.
        secrets: decrypts what messages are signed with.
    """

    networks: Sequence[Network]
    timeout_s: float
    trust: ssl.SSLContext
    secrets: SecretBox

    def send(self, message: Outgoing) -> Outcome:
        """Try once; never raises, takes at most ``timeout_s``. Redirects are not followed."""
        at = datetime.now(UTC)
        started_at = time.monotonic()
        status: int | None = None
        error: str | None = None
        try:
            status = self._post(message, started_at + self.timeout_s, int(at.timestamp()))
            if not 200 <= status < 300:
                error = "redirect" if 300 <= status < 400 else "status"
        except UnreadableSecret:
            error = "secret"
        except (AddressRefused, ValueError):
            error = "address_refused"
        except httpcore.TimeoutException:
            error = "timeout"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as reason:
            error = "certificate" if _is_about_certificate(reason) else "connection"
        except Exception:
            # Otherwise the message would be resent forever without being counted.
            log.exception("webhook.attempt_crashed", delivery_id=message.id)
            error = "connection"
        attempt = AttemptRecord(at.isoformat(), status, error, round(time.monotonic() - started_at, 3))
        return Outcome(attempt, final=error == "address_refused" or status == _GONE, gone=status == _GONE)

    def _post(self, message: Outgoing, ends_at: float, sent_at: int) -> int:
        """The response's status."""
        target = split(message.url)
        url = httpcore.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.target.encode()
        )
        secret = self.secrets.open(message.stored_secret)
        headers = signing.headers(secret, message.id, sent_at, message.body) | {
            "Content-Type": "application/json",
            "User-Agent": f"backdoor-audit/{API_VERSION}",
            "Connection": "close",
        }
        backend = CheckedBackend(target.scheme, self.networks, ends_at)
        # A separate pool for each attempt: nothing that was checked for one message is used for another.
        with (
            httpcore.ConnectionPool(self.trust, network_backend=backend, max_keepalive_connections=0) as pool,
            pool.stream("POST", url, headers=list(headers.items()), content=message.body.encode()) as response,
        ):
            status: int = response.status
            try:
                read = 0
                for chunk in response.iter_stream():
                    read += len(chunk)
                    if read > MAX_ANSWER_BYTES:
                        break
            except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
                pass  # Only the status matters, and it has been received.
        return status


def _is_about_certificate(error: BaseException) -> bool:
    return isinstance(error.__cause__ or error.__context__, ssl.SSLCertVerificationError)
