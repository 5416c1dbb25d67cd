"""What an audit will run, computed from the spec before any model is loaded. Torch-free.

The audit's preflight and the service's dry run both use it, so that the dry run announces what the audit will do.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from audit.errors import InvalidAudit
from audit.prompts import carriers as carrier_sets
from audit.prompts.decoys import ENOUGH, draw
from backdoor_audit.contract.spec.audit_spec import AuditSpec, TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier, CarrierSet
from backdoor_audit.contract.spec.presets import PresetValues

MIN_DECOY_CARRIERS_PER_HALF: Final = 8


@dataclass(frozen=True)
class DecoyList:
    """Decoys in the order in which they are shown.

    Attributes:
        strings: the user's own, or drawn ones.
        of_other_length: how many of them have another number of tokens than the triggered string.
    """

    strings: tuple[str, ...]
    of_other_length: int = 0


@dataclass(frozen=True)
class AuditPlan:
    """The carriers and the decoys of an audit.

    Attributes:
        sizes: the preset with the spec's overrides.
        a: carriers of the discovery half.
        b: carriers of the confirming half.
        decoy_carriers: how many of the first carriers of each half are also shown with decoys.
    """

    spec: AuditSpec
    sizes: PresetValues
    a: tuple[Carrier, ...]
    b: tuple[Carrier, ...]
    decoy_carriers: int

    @property
    def suspects(self) -> tuple[str, ...]:
        """Strings that are never drawn as decoys, because they belong to one of several suspected pairs; empty for a
        single pair.
        """
        pairs = self.spec.pairs
        if len(pairs) == 1:
            return ()
        return tuple(dict.fromkeys(string for pair in pairs for string in (pair.triggered, pair.clean)))

    def decoys(self, tokenizer: Any, fits: Callable[[str], bool], drawn_as: TriggerSpec | None = None) -> DecoyList:
        """Every decoy that may be shown, at most ``max_decoys``, in order.

        Args:
            tokenizer: the base's.
            fits: whether a string has as many tokens as the triggered one.
            drawn_as: the pair that decoys are drawn for; the spec's first pair if None.
        """
        most, given = self.sizes.max_decoys, self.spec.decoys
        if isinstance(given, str):
            trigger = drawn_as or self.spec.pairs[0]
            drawn = draw(
                trigger.triggered, trigger.clean, tokenizer, self.spec.seed, most, fits, suspects=self.suspects
            )
            shown = tuple(drawn)
        else:
            shuffled = list(given.strings)
            random.Random(f"decoys:{self.spec.seed}").shuffle(shuffled)
            shown = tuple(shuffled[:most])
        return DecoyList(shown, sum(not fits(string) for string in shown))

    def sequences(self, decoy_sets: int | None = None) -> int:
        """The maximum number of sequences that each model is run on: every string on every carrier, decoys on fewer.

        Runs under a clean string are shared by all pairs with that string, and so are decoys.

        Args:
            decoy_sets: distinct sets of decoys; if None, as many as there are pairs (known only after tokenising).
        """
        pairs = self.spec.pairs
        cleans = len({pair.clean for pair in pairs})
        sets = len(pairs) if decoy_sets is None else decoy_sets
        carriers = len(self.a) + len(self.b)
        return (len(pairs) + 2 * cleans) * carriers + sets * self.sizes.max_decoys * 2 * self.decoy_carriers


def too_few(decoys: int, most: int) -> str | None:
    """What to say before an audit whose decoys are too few for any pair to stand out; None if there are enough.

    Args:
        decoys: how many there are.
        most: how many may be shown (``max_decoys``); an audit that wants fewer knows it.
    """
    if decoys >= min(ENOUGH, most):
        return None
    return (
        f"there are {decoys} decoys, and the gate specific needs {ENOUGH} that are silent: without a library the "
        "verdict is review at most; supply decoys of your own"
    )


def given_carriers(spec: AuditSpec) -> tuple[Carrier, ...]:
    """The carriers of the spec: a shipped set, or the user's own.

    Raises:
        InvalidAudit: an unknown carrier set.
    """
    if isinstance(spec.carriers, CarrierSet):
        return tuple(carrier_sets.load_set(spec.carriers.set))
    return spec.carriers.prompts


def plan_audit(spec: AuditSpec) -> AuditPlan:
    """Split the carriers into halves, and determine how many of them are also shown with decoys.

    Raises:
        InvalidAudit: too few carriers or clusters, or an unknown carrier set.
    """
    sizes = spec.sizes()
    a, b = carrier_sets.split_ab(given_carriers(spec), sizes.carriers, spec.seed)
    per_half = min(sizes.decoy_carriers // 2, len(a), len(b))
    if per_half < MIN_DECOY_CARRIERS_PER_HALF:
        raise InvalidAudit(
            f"decoys would be shown on {per_half} carriers per half, fewer than {MIN_DECOY_CARRIERS_PER_HALF}",
            hint=f"set overrides.decoy_carriers to at least {2 * MIN_DECOY_CARRIERS_PER_HALF}",
        )
    return AuditPlan(spec, sizes, a, b, per_half)
