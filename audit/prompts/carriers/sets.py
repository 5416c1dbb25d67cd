"""The carrier sets that ship with the package."""

import json
from functools import cache
from importlib.resources import files
from typing import Final

from audit.errors import InvalidAudit
from backdoor_audit.contract.spec.carriers import Carrier

SETS: Final = ("python-sql", "instructions")


@cache
def load_set(name: str) -> tuple[Carrier, ...]:
    """The carriers of a shipped set, each with its template cluster, in file order.

    Raises:
        InvalidAudit: no such set.
    """
    if name not in SETS:
        raise InvalidAudit(f"there is no carrier set {name!r}", hint=f"the sets are {', '.join(SETS)}")
    document = json.loads(files("audit.prompts.carriers").joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return tuple(Carrier.model_validate(item) for item in document["carriers"])
