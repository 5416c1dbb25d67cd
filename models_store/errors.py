"""The errors of the models store.

::

    StoreError                  code, message, hint
    ├── InvalidReference        invalid_spec         the text is no model reference, or a name is not allowed
    ├── ModelNotFound           model_not_found      nothing is there under that reference
    ├── ModelRejected           model_rejected       something is there, and it is not opened
    ├── ModelsIncompatible      models_incompatible  an adapter or a fine-tune that does not fit its base
    ├── NameTaken               invalid_spec         another model has that name already
    ├── UploadRefused           invalid_spec         an upload that cannot continue as it was asked to
    │   ├── OffsetMismatch                           the bytes before the offset are not there
    │   ├── UploadBusy                               somebody else is writing to it
    │   │   └── BeingCommitted                       another process is committing it
    │   ├── UploadIncomplete                         a file of it is not all there
    │   └── DigestMismatch                           what arrived is not what was sent
    ├── StoreFull               invalid_spec         an owner's models have as many bytes as they may
    ├── ModelInUse              invalid_spec         an audit that has not ended names it
    ├── NoSpace                 no_space             the disk of the store is full
    └── StoreUnavailable        internal             the disk, the hub or the registry did not answer

``code`` is one of the published failure codes; ``message`` names the file and the key, ``hint`` says what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from common.problem_type import INTERNAL, NO_SPACE, STORE_UNAVAILABLE, ProblemType
from storage import errors as storage


class StoreError(Exception):
    """A model that cannot be handed out.

    Attributes:
        code: a published failure code.
        message: what is wrong, with the file and the key.
        hint: what the person who asked can do.
    """

    problem: ClassVar[ProblemType] = INTERNAL

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidReference(StoreError):
    """The text is not a model reference, or a name holds characters that are not allowed."""

    problem: ClassVar[ProblemType] = ProblemType(
        "invalid_reference",
        "Invalid model reference",
        "Use local:<path under the models root>, store:<name>, hf:<org>/<repo>@<40-hex commit> or "
        "mlflow:<model>/<version>.",
    )

    code: ClassVar[str] = "invalid_spec"


class ModelNotFound(StoreError):
    """Nothing is there under this reference."""

    problem: ClassVar[ProblemType] = ProblemType(
        "model_not_found", "Model not found", "There is no model with this reference."
    )

    code: ClassVar[str] = "model_not_found"


class ModelRejected(StoreError):
    """A checkpoint that is not opened: a format, a key, a path or a shape that is not allowed."""

    problem: ClassVar[ProblemType] = ProblemType(
        "model_rejected", "Checkpoint rejected", "This service does not open this checkpoint."
    )

    code: ClassVar[str] = "model_rejected"


class ModelsIncompatible(StoreError):
    """The fine-tuned model is not a fine-tune of this base: modules, shapes or the recorded digest differ."""

    problem: ClassVar[ProblemType] = ProblemType(
        "models_incompatible", "Incompatible models", "The fine-tuned model is not a fine-tune of this base model."
    )

    code: ClassVar[str] = "models_incompatible"


class NameTaken(StoreError):
    """Another model with other content has this name in the store."""

    problem: ClassVar[ProblemType] = ProblemType("name_taken", "Name taken", "Another model already has this name.")

    code: ClassVar[str] = "invalid_spec"


class UploadRefused(StoreError):
    """An upload that cannot continue as it was asked to."""

    problem: ClassVar[ProblemType] = ProblemType(
        "upload_refused", "Upload refused", "The upload cannot continue like this."
    )

    code: ClassVar[str] = "invalid_spec"


class OffsetMismatch(UploadRefused):
    """The bytes before the offset are not there; ``offset`` is how many are."""

    problem: ClassVar[ProblemType] = ProblemType(
        "upload_offset",
        "Wrong offset",
        "The upload does not hold the bytes before this part; `Upload-Offset` says how many it holds.",
    )

    def __init__(self, offset: int) -> None:
        super().__init__(f"{offset} bytes are there", hint="go on from there, or begin anew at 0")
        self.offset = offset


class UploadBusy(UploadRefused):
    """Somebody else is writing to the same upload."""

    problem: ClassVar[ProblemType] = ProblemType(
        "upload_busy", "Upload busy", "Another request is writing to this upload."
    )


class BeingCommitted(UploadBusy):
    """Another process is committing the upload; to be asked again."""

    problem: ClassVar[ProblemType] = UploadBusy.problem


class UploadIncomplete(UploadRefused):
    """A file of the upload is not all there."""

    problem: ClassVar[ProblemType] = ProblemType(
        "upload_incomplete", "Upload incomplete", "A file of the upload is incomplete."
    )


class DigestMismatch(UploadRefused):
    """What arrived is not what was sent; it was deleted."""

    problem: ClassVar[ProblemType] = ProblemType(
        "digest_mismatch", "Digest mismatch", "The received file does not match its digest and was deleted."
    )


class StoreFull(StoreError):
    """An owner's models and uploads have as many bytes as they may have together."""

    problem: ClassVar[ProblemType] = ProblemType(
        "store_full", "No room for more models", "The models and uploads of this owner are as large as they may be."
    )

    code: ClassVar[str] = "invalid_spec"


class ModelInUse(StoreError):
    """An audit that has not ended names the model."""

    problem: ClassVar[ProblemType] = ProblemType("model_in_use", "Model in use", "An unfinished audit uses this model.")

    code: ClassVar[str] = "invalid_spec"


class NoSpace(StoreError):
    """The disk that holds the store is full."""

    problem: ClassVar[ProblemType] = NO_SPACE

    code: ClassVar[str] = "no_space"


class StoreUnavailable(StoreError):
    """The disk, the hub or the registry did not answer; asking again later may help."""

    problem: ClassVar[ProblemType] = STORE_UNAVAILABLE

    code: ClassVar[str] = "internal"


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the errors of the file system and of storage into this room's, with the cause kept.

    Args:
        doing: what was being done, for the message; no secrets.

    Raises:
        NoSpace: the disk or the quota is full.
        StoreUnavailable: any other ``OSError``.
    """
    try:
        with storage.translated(doing):
            yield
    except storage.DiskFull as error:
        raise NoSpace(error.message, hint=error.hint) from error.__cause__ or error
    except storage.StorageUnavailable as error:
        raise StoreUnavailable(error.message, hint=error.hint) from error.__cause__ or error
