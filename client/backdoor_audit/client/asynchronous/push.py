"""Uploads a checkpoint's folder file by file, and resumes each file where an earlier attempt broke off."""

from collections.abc import Callable
from typing import Final

from backdoor_audit.client import calls
from backdoor_audit.client.asynchronous.transport import AsyncTransport
from backdoor_audit.client.calls import UploadState
from backdoor_audit.client.checkpoint_files import CheckpointFile
from backdoor_audit.client.errors import AnswerError, InvalidRequest, NotFound, ServiceFault, Unreachable
from backdoor_audit.client.responses import Model

_CHECK_POLL_S: Final = 2.0


async def push_file(transport: AsyncTransport, name: str, file: CheckpointFile, say: Callable[[str], None]) -> None:
    """Send the part of a file that the service does not have yet.

    Raises:
        ClientError: the last attempt that the retry policy allows failed, or another attempt would not help.
    """
    retry = transport.retry
    for attempt in range(1, retry.attempts + 1):
        try:
            state = await _upload_state(transport, name, file)
            if state is None:
                say(f"Skipped, because the service does not accept it: {file.name}")
                return
            if state.digest == file.digest_header or _awaits_its_check(state, file):
                return
            start = state.offset if state.digest is None and state.offset < file.size else 0
            say(f"Sending {file.name}, {file.size} bytes" + (f", resuming at byte {start}" if start else ""))
            for content_range, content in file.parts(start):
                await transport.send(calls.upload_part(name, file.name, content, content_range, file.digest_header))
            return
        except (Unreachable, AnswerError) as error:
            if not _passing(error) or attempt == retry.attempts:
                raise
        await transport.pause(retry.first_s * 2 ** (attempt - 1))


async def commit(transport: AsyncTransport, name: str, say: Callable[[str], None]) -> Model:
    """Commit an upload, however long the service takes to check it.

    Raises:
        ClientError: it was refused, or the service cannot be reached.
    """
    said = False
    while True:
        state = await transport.send(calls.commit_model(name))
        if state.model is not None:
            return state.model
        if not said:
            say("All files are there; the service checks them")
            said = True
        await transport.pause(_CHECK_POLL_S if state.retry_after_s is None else state.retry_after_s)


def _awaits_its_check(state: UploadState, file: CheckpointFile) -> bool:
    """Whether all of the file is there, and the commit will check its digest."""
    return state.complete and state.digest is None and state.offset == file.size


async def _upload_state(transport: AsyncTransport, name: str, file: CheckpointFile) -> UploadState | None:
    """What the service has of a file; None if it accepts no such file."""
    try:
        return await transport.send(calls.upload_state(name, file.name))
    except NotFound:
        return UploadState(0, None)
    except InvalidRequest:
        return None


def _passing(error: Unreachable | AnswerError) -> bool:
    """Whether it may help to query the upload's state again.

    A digest mismatch is such an error: the service had the beginning of another file, and has discarded it. So is an
    upload that is busy: the service may not have noticed yet that an earlier connection has broken.
    """
    if isinstance(error, Unreachable | ServiceFault):
        return True
    return error.problem.code in ("upload_offset", "upload_busy", "digest_mismatch")
