"""Entity tags and 304, so that responses are not sent twice."""

import hashlib


def tag_of(content: bytes) -> str:
    """A strong entity tag for these bytes."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether a client already has this response: weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags
