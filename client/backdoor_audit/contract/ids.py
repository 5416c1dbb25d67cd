"""The formats of ids, digests and references, as regular expressions for a whole string.

An id is a word for its kind, an underscore, and a ULID in lower case.
"""

from typing import Final

_ULID: Final = "[0-9a-hjkmnp-tv-z]{26}"

AUDIT_ID: Final = r"^audit_[0-9a-z]{26}$"
ENTRY_ID: Final = r"^entry_[0-9a-z]{26}$"
KEY_ID: Final = rf"^key_{_ULID}$"
WEBHOOK_ID: Final = rf"^wh_{_ULID}$"
DELIVERY_ID: Final = rf"^msg_{_ULID}$"

BATCH_ID: Final = rf"^batch_{_ULID}$"

DIGEST: Final = r"^sha256:[0-9a-f]{64}$"

LIBRARY_REFERENCE: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""A benign library, by name or id."""

_LOCAL_PATH: Final = r"(?!(?:.*/)?\.\.?(?:/|$))[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*"
MODEL_REFERENCE: Final = (
    rf"^(?:local:{_LOCAL_PATH}"
    r"|store:[a-z0-9][a-z0-9._-]{0,127}"
    r"|hf:[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+@[0-9a-f]{40}"
    r"|mlflow:[A-Za-z0-9_](?:[A-Za-z0-9 ._-]{0,253}[A-Za-z0-9._-])?/[1-9][0-9]{0,9})$"
)
"""A checkpoint: under the models root, in the store, on a hub at a commit, or a registered version in MLflow."""
