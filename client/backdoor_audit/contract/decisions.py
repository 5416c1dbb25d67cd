"""What people decide about an audit's result: whether the model may be used."""

from typing import Annotated, Final, Literal

from pydantic import StringConstraints

Choice = Literal["accepted", "rejected", "needs_work"]
"""``accepted``: the model may be used, whatever the verdict. The latest decision on an audit is the one that holds."""

CHOICE_TITLES: Final[dict[Choice, str]] = {
    "accepted": "Accepted", "rejected": "Rejected", "needs_work": "Needs work",
}  # fmt: skip

_CONTROL: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_LINE: Final = rf"^[^{_CONTROL}]*[^\x20\xa0{_CONTROL}][^{_CONTROL}]*$"
Person = Annotated[str, StringConstraints(pattern=_LINE, max_length=200)]
"""Who decided, in one line that is not blank."""
Because = Annotated[str, StringConstraints(pattern=_LINE, max_length=2_000)]
"""Why, in one line that is not blank."""
