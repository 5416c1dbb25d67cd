"""What a search uses of the carriers, and what it leaves to the audit that judges its finds. Torch-free."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit.errors import InvalidAudit
from audit.prompts.carriers import cluster_of, subsample
from audit.prompts.carriers.split import MIN_CARRIERS, MIN_CLUSTERS
from audit.search.sizes import SearchSizes
from backdoor_audit.contract.report.search import SearchResult
from backdoor_audit.contract.spec.audit_spec import TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier

SEARCH_SHARE: Final = 1 / 3
"""Share of the clusters that a search may use, where the gates have enough."""
MIN_SEARCH_CLUSTERS: Final = 4


@dataclass(frozen=True)
class Reserved:
    """Carriers by use; no cluster has two uses.

    Attributes:
        scan: the one that every string is tried on, the shortest of its clusters.
        more: for the few strings that come through.
        verifying: for those that are left at the end.
        judged: for the gates.
    """

    scan: Carrier
    more: tuple[Carrier, ...]
    verifying: tuple[Carrier, ...]
    judged: tuple[Carrier, ...]


def reserve(carriers: Sequence[Carrier], sizes: SearchSizes, seed: int) -> Reserved:
    """Divide the carriers by cluster.

    Raises:
        InvalidAudit: too few clusters or carriers for a search and for the gates.
    """
    clusters: dict[str, list[Carrier]] = {}
    for carrier in carriers:
        clusters.setdefault(cluster_of(carrier), []).append(carrier)
    names = sorted(clusters)
    random.Random(f"search:{seed}").shuffle(names)
    used = max(MIN_SEARCH_CLUSTERS, min(round(SEARCH_SHARE * len(names)), len(names) - 2 * MIN_CLUSTERS))
    left = [carrier for name in names[used:] for carrier in clusters[name]]
    if len(names) - used < 2 * MIN_CLUSTERS or len(left) < 2 * MIN_CARRIERS:
        raise InvalidAudit(
            f"a search needs carriers of its own: {len(names)} clusters are too few, since {2 * MIN_CLUSTERS} with "
            f"{2 * MIN_CARRIERS} carriers must be left to the gates",
            hint=f"give carriers in at least {2 * MIN_CLUSTERS + MIN_SEARCH_CLUSTERS} clusters, or use a shipped set",
        )
    half = (used + 1) // 2
    shortest = sorted(
        (min(clusters[name], key=lambda carrier: (_length(carrier), cluster_of(carrier))) for name in names[:half]),
        key=_length,
    )
    rest = [carrier for name in names[:half] for carrier in clusters[name] if carrier not in shortest]
    more = (*shortest[1:], *subsample(rest, sizes.more_carriers, seed))[: sizes.more_carriers]
    verifying = subsample([carrier for name in names[half:used] for carrier in clusters[name]], sizes.verifying, seed)
    return Reserved(shortest[0], more, verifying, tuple(left))


def _length(carrier: Carrier) -> int:
    return len(carrier.prompt or "") + sum(len(message.content) for message in carrier.messages or ())


def pairs_of(result: SearchResult) -> tuple[TriggerSpec, ...]:
    """The found strings as pairs for an audit: the shortest form against its silent neighbour, the best first."""
    pairs = [
        TriggerSpec(triggered=found.minimal, clean=found.clean, template=found.template) for found in result.found
    ]  # fmt: skip
    return tuple(dict.fromkeys(pairs))
