"""What the worker and its sandbox say to each other: one JSON object a line, over two pipes. Torch-free.

::

    worker ──stdin──▶ sandbox     Request (the first line), then any number of Interrupt
    worker ◀──a pipe── sandbox    any number of Progress, then one of Finished, Failed, Stopped

The worker believes nothing that it reads: a line is validated against the models below, and one that is too long or
not a message ends the audit. What only the worker can know (why it was interrupted, that a deadline passed) it does not
take from the sandbox, and a report is compared with what was asked (``worker.attempts.report_check``). The sandbox
takes the end of its input as the death of the worker.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from backdoor_audit.contract.benign_library import LibraryEntry
from backdoor_audit.contract.digests import FileDigest
from backdoor_audit.contract.lifecycle import Failure, Stage
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.text.foreign_text import visible
from worker.errors import ProtocolError

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Longest line that the worker reads from a sandbox. A report travels as an artifact, not through here."""

REPORT_FOLDER: Final = "report"
REPORT_FILE: Final = "report.json"

_MAX_TEXT: Final = 4_000
_THE_WORKERS: Final = ("worker_lost", "deadline_exceeded", "model_not_found")

Reason = Literal["cancel", "deadline", "shutdown"]


def _visible_progress(text: str) -> str:
    return visible(text)[:1_000]


class Message(BaseModel):
    """Immutable, validated on construction, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def line(self) -> bytes:
        """The message as it travels, with its line end."""
        return self.model_dump_json().encode() + b"\n"


class ModelFolder(Message):
    """The private view of a checkpoint that the worker has verified; the sandbox verifies it again."""

    path: Path
    root: Path = Field(description="Links in the view lead into this folder.")
    digest: str
    files: tuple[FileDigest, ...] = ()


class Limits(Message):
    """What the sandbox may use; None is no limit."""

    memory_bytes: int | None
    file_bytes: int | None


class Request(Message):
    """Everything that one audit needs. The sandbox has no settings and no environment of its own."""

    audit_id: str
    spec: AuditSpec
    library: tuple[LibraryEntry, ...] = Field(default=(), description="Benign scores to compare with.")
    base: ModelFolder
    tuned: ModelFolder
    notes: tuple[str, ...] = Field(default=(), description="What the report must say about the checkpoints.")
    workspace: Path
    cache: Path
    cache_bytes: int = Field(ge=0)
    device: str
    device_map: Literal["single", "auto"] = "single"
    limits: Limits
    parent_pid: int = Field(description="The sandbox ends when this process is no longer its parent.")


class Interrupt(Message):
    """Stop at the next chance."""

    reason: Reason


class Progress(Message):
    """``fraction`` (0–1) of ``stage`` is done."""

    kind: Literal["progress"] = "progress"
    stage: Stage
    fraction: Annotated[float, Field(ge=0, le=1)]
    message: Annotated[str, StringConstraints(max_length=1_000), AfterValidator(_visible_progress)] = ""


class Finished(Message):
    """The report is written, in the workspace's folder of that name."""

    kind: Literal["finished"] = "finished"


class Failed(Message):
    """The audit cannot be done."""

    kind: Literal["failed"] = "failed"
    failure: Failure

    @field_validator("failure")
    @classmethod
    def _is_the_sandboxs_to_say(cls, failure: Failure) -> Failure:
        """Only the worker knows that a worker was lost, a deadline has passed, or a reference leads nowhere; texts are
        bounded and printable.
        """
        if failure.code in _THE_WORKERS:
            raise ValueError("the sandbox cannot know this")
        return failure.model_copy(
            update={"message": visible(failure.message)[:_MAX_TEXT], "hint": visible(failure.hint)[:_MAX_TEXT]}
        )


class Stopped(Message):
    """The audit ended because of an interrupt."""

    kind: Literal["stopped"] = "stopped"
    reason: Reason


FromSandbox = Progress | Finished | Failed | Stopped
Outcome = Finished | Failed | Stopped

_FROM_SANDBOX: Final[TypeAdapter[FromSandbox]] = TypeAdapter(Annotated[FromSandbox, Field(discriminator="kind")])


def read_message(line: bytes) -> FromSandbox:
    """Parse one line from the sandbox.

    Raises:
        ProtocolError: it is not one of the sandbox's messages.
    """
    try:
        return _FROM_SANDBOX.validate_json(line)
    except ValidationError as error:
        raise ProtocolError(f"the sandbox sent a line of {len(line)} bytes that is not a message") from error


def read_request(line: bytes) -> Request:
    """Parse the first line from the worker.

    Raises:
        ProtocolError: it is not a request.
    """
    try:
        return Request.model_validate_json(line)
    except ValidationError as error:
        raise ProtocolError("the first line is not a request") from error


def read_interrupt(line: bytes) -> Interrupt:
    """Parse a later line from the worker.

    Raises:
        ProtocolError: it is not an interrupt.
    """
    try:
        return Interrupt.model_validate_json(line)
    except ValidationError as error:
        raise ProtocolError("the line is not an interrupt") from error


class LineSplitter:
    """Cuts a stream of bytes into lines, whatever the chunks it comes in."""

    def __init__(self, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the lines that they complete, without their ends.

        Raises:
            ProtocolError: a line is longer than the limit.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if max(map(len, [*lines, self._rest])) > self._limit:
            raise ProtocolError(f"the sandbox sent a line of more than {self._limit} bytes")
        return lines
