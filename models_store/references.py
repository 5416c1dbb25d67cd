"""Model references: the four ways to name a checkpoint, parsed and nothing more."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from models_store.errors import InvalidReference, ModelRejected

Scheme = Literal["local", "store", "hf", "mlflow"]

MAX_REFERENCE_CHARS: Final = 512
_PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+"
_LOCAL = re.compile(rf"{_PART}(?:/{_PART})*")
_STORE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_HUB_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REGISTERED = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9 ._-]{0,253}[A-Za-z0-9._-])?")
_VERSION = re.compile(r"[1-9][0-9]{0,9}")
_FORMS: Final = (
    "local:<path under the models root>, store:<name>, hf:<org>/<repo>@<40-hex commit> or mlflow:<model>/<version>"
)


@dataclass(frozen=True)
class Reference:
    """A parsed model reference.

    Attributes:
        scheme: where to look.
        name: the path under the models root, the store's name, ``org/repo``, or a registered model's name.
        commit: the full commit sha of an ``hf`` reference, otherwise None.
        version: the number of a registered model's version, otherwise None.
    """

    scheme: Scheme
    name: str
    commit: str | None = None
    version: str | None = None

    @property
    def organisation(self) -> str | None:
        """The organisation of an ``hf`` reference, otherwise None."""
        return self.name.split("/", 1)[0] if self.scheme == "hf" else None

    def __str__(self) -> str:
        """The reference as it is written."""
        commit = f"@{self.commit}" if self.commit else ""
        return f"{self.scheme}:{self.name}{commit}" + (f"/{self.version}" if self.version else "")


def parse_reference(text: str) -> Reference:
    """Parse ``local:…``, ``store:…``, ``hf:…@commit`` or ``mlflow:…/version``; nothing on disk is looked at.

    Raises:
        InvalidReference: the text has none of the four forms (a URL, an absolute path, ``..``).
        ModelRejected: a hub repository without a full commit sha, or a registered model without the number of a
            version: branches, tags, aliases and stages move.
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
    if colon and scheme == "mlflow":
        return _registered(rest)
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


def _registered(rest: str) -> Reference:
    name, slash, version = rest.partition("/")
    if _REGISTERED.fullmatch(name.partition("@")[0]) is None:
        raise InvalidReference("this is not the name of a registered model", hint=f"write {_FORMS}")
    if "@" in name or not slash or _VERSION.fullmatch(version) is None:
        raise ModelRejected(
            f"mlflow:{name.partition('@')[0]} names no version",
            hint="add / and the number of the version; aliases and stages can change under an audit",
        )
    return Reference("mlflow", name, version=version)
