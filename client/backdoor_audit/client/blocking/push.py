# Written by `python -m tools.unasync --write` from ../asynchronous; do not edit.
"""Uploads a checkpoint's folder file by file, and resumes each file where an earlier attempt broke off."""

from collections.abc import Callable

from backdoor_audit.client import calls
from backdoor_audit.client.blocking.transport import Transport
from backdoor_audit.client.calls import UploadState
from backdoor_audit.client.checkpoint_files import CheckpointFile
from backdoor_audit.client.errors import AnswerError, InvalidRequest, NotFound, ServiceFault, Unreachable


def push_file(transport: Transport, name: str, file: CheckpointFile, say: Callable[[str], None]) -> None:
    """Send the part of a file that the service does not have yet.

    Raises:
        ClientError: the last attempt that the retry policy allows failed, or another attempt would not help.
    """
    retry = transport.retry
    for attempt in range(1, retry.attempts + 1):
        try:
            state = _upload_state(transport, name, file)
            if state is None:
                say(f"Skipped, because the service does not accept it: {file.name}")
                return
            if state.digest == file.digest_header:
                return
            start = state.offset if state.digest is None and state.offset < file.size else 0
            say(f"Sending {file.name}, {file.size} bytes" + (f", resuming at byte {start}" if start else ""))
            for content_range, content in file.parts(start):
                transport.send(calls.upload_part(name, file.name, content, content_range, file.digest_header))
            return
        except (Unreachable, AnswerError) as error:
            if not _passing(error) or attempt == retry.attempts:
                raise
        transport.pause(retry.first_s * 2 ** (attempt - 1))


def _upload_state(transport: Transport, name: str, file: CheckpointFile) -> UploadState | None:
    """What the service has of a file; None if it accepts no such file."""
    try:
        return transport.send(calls.upload_state(name, file.name))
    except NotFound:
        return UploadState(0, None)
    except InvalidRequest:
        return None


def _passing(error: Unreachable | AnswerError) -> bool:
    """Whether it may help to query the upload's state again.

    A digest mismatch is such an error: the service had the beginning of another file, and has discarded it.
    """
    if isinstance(error, Unreachable | ServiceFault):
        return True
    return error.problem.code in ("upload_offset", "digest_mismatch")
