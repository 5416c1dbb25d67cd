"""Model references: the three ways to name a checkpoint, parsed and nothing more."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from models_store.errors import InvalidReference, ModelRejected

Scheme = Literal["local", "store", "hf"]

MAX_REFERENCE_CHARS: Final = 512
_PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+"
_LOCAL = re.compile(rf"{_PART}(?:/{_PART})*")
_STORE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_HUB_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORMS: Final = "local:<path under the models root>, store:<name> or hf:<org>/<repo>@<40-hex commit>"


@dataclass(frozen=True)
class Reference:
    """A parsed model reference.

    Attributes:
        scheme: where to look.
        name: the path under the models root, the store's name, or ``org/repo``.
        commit: the full commit sha of an ``hf`` reference, else None.
    """

    scheme: Scheme
    name: str
    commit: str | None = None

    @property
    def organisation(self) -> str | None:
        """The organisation of an ``hf`` reference, else None."""
        return self.name.split("/", 1)[0] if self.scheme == "hf" else None

    def __str__(self) -> str:
        """The reference as it is written."""
        return f"{self.scheme}:{self.name}" + (f"@{self.commit}" if self.commit else "")


def parse_reference(text: str) -> Reference:
    """Parse ``local:…``, ``store:…`` or ``hf:…@commit``; nothing on disk is looked at.

    Raises:
        InvalidReference: the text has none of the three forms (a URL, an absolute path, ``..``).
        ModelRejected: a hub repository without a full commit sha: branches and tags move.
    """
    if len(text) > MAX_REFERENCE_CHARS:
        raise InvalidReference(f"the model reference is longer than {MAX_REFERENCE_CHARS} characters", hint=_FORMS)
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "local" and _LOCAL.fullmatch(rest):
        return Reference("local", rest)
    if colon and scheme == "store":
        return Reference("store", store_name(rest))
    if colon and scheme == "hf":
        return _hub_reference(rest)
    raise InvalidReference("this is not a model reference", hint=f"write {_FORMS}")


def store_name(name: str) -> str:
    """Return ``name`` when it may name a model of the store.

    Raises:
        InvalidReference: it holds other characters than lower-case letters, digits, ``.``, ``_`` and ``-``.
    """
    if _STORE_NAME.fullmatch(name) is None:
        raise InvalidReference(
            "this is not a name for a model of the store",
            hint="use lower-case letters, digits, '.', '_' and '-', at most 128 characters",
        )
    return name


def _hub_reference(rest: str) -> Reference:
    repository, at, commit = rest.partition("@")
    if _HUB_REPOSITORY.fullmatch(repository) is None or ".." in repository or "--" in repository:
        raise InvalidReference("this is not a hub repository", hint=f"write {_FORMS}")
    if not at or _COMMIT.fullmatch(commit) is None:
        raise ModelRejected(
            f"hf:{repository} names no full commit",
            hint="add @ and the 40 hexadecimal characters of the commit; branches and tags can change under an audit",
        )
    return Reference("hf", repository, commit)
