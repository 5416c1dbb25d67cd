"""Values from outside that become request headers."""

from backdoor_audit.client.errors import WrongUsage


def header_value(value: str, where: str) -> str:
    """``value`` without the white space around it; a secret read from a file often ends with a line feed.

    Args:
        value: never quoted in an error, because it may be a secret.
        where: the option or variable that it comes from.

    Raises:
        WrongUsage: it is empty, or contains a character that is not allowed in a header.
    """
    value = value.strip()
    if not value or not value.isascii() or not value.isprintable():
        what = "holds a character that is not printable ASCII" if value else "is empty"
        raise WrongUsage(f"{where} {what}", hint="set it again: letters, digits and punctuation, on one line")
    return value
