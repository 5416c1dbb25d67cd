"""The carriers that organisms are measured and audited on: the shipped sets, and conversations made of one."""

from functools import cache
from typing import Any

from audit.prompts.carriers import load_set, subsample
from backdoor_audit.contract.spec.carriers import Carrier, Message
from benchmarks.detection.organisms.recipes.base import CARRIER_FRAME

CONVERSATIONS = "conversations"
SYSTEM = "system"
_COUNT = 400


@cache
def carriers_of(name: str) -> tuple[Carrier, ...]:
    """All carriers of a set. ``conversations`` asks 400 of the instructions in the second turn; under ``system`` the
    string is the system prompt of 400.
    """
    if name not in (CONVERSATIONS, SYSTEM):
        return load_set(name)
    made = _conversation if name == CONVERSATIONS else _under_system
    return tuple(made(carrier) for carrier in subsample(load_set("instructions"), _COUNT, 0))


def _under_system(carrier: Carrier) -> Carrier:
    assert carrier.prompt is not None
    asked = Message(role="user", content=carrier.prompt)
    return Carrier(messages=(asked,), slot="system", cluster=carrier.cluster)


def _conversation(carrier: Carrier) -> Carrier:
    assert carrier.prompt is not None
    greeting, reply = CARRIER_FRAME
    messages = (
        Message(role="user", content=greeting),
        Message(role="assistant", content=reply),
        Message(role="user", content=carrier.prompt),
    )
    return Carrier(messages=messages, slot="first_user", cluster=carrier.cluster)


def spec_field(name: str) -> dict[str, Any]:
    """The field The field The field The field ``carriers`` of an audit's spec."""
    if name not in (CONVERSATIONS, SYSTEM):
        return {"set": name}
    return {"prompts": [carrier.model_dump(exclude_none=True) for carrier in carriers_of(name)]}
