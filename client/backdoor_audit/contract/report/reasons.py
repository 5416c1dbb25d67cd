"""Why a report asks a person to look, each reason with a code and the next step. Torch-free."""

from typing import Final, Literal, get_args

from pydantic import Field

from backdoor_audit.contract.base import Frozen

ReasonCode = Literal[
    "prompt_settings",
    "answers_differ",
    "decoys_react",
    "clean_is_odd",
    "both_are_odd",
    "uneven_change",
    "small_change",
    "base_reacts",
    "not_specific",
    "others_fire",
    "class_of_strings",
    "too_few_decoys",
    "decoys_contradict",
    "no_cause",
    "benign_alike",
    "activations_shifted",
    "not_localised",
    "another_candidate",
    "found_by_search",
    "not_finite",
]
REASON_CODES: Final[tuple[ReasonCode, ...]] = get_args(ReasonCode)


class Reason(Frozen):
    """One thing that a person should look at."""

    code: ReasonCode = Field(description="The same for the same reason in every report.")
    text: str = Field(description="What was found; the same line as in look_at.")
    next_step: str = Field(description="What to do about it.")
