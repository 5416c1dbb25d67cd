"""Splits carriers into the discovery half (A) and the confirming half (B)."""

import hashlib
import json
import random
from collections.abc import Sequence
from typing import Final

from audit.errors import InvalidAudit
from backdoor_audit.contract.spec.carriers import Carrier

MIN_CARRIERS: Final = 32
MIN_CLUSTERS: Final = 8


def digest(carriers: Sequence[Carrier]) -> str:
    """``sha256:…`` of the carriers in their order: prompts, messages, slots and clusters."""
    content = [carrier.model_dump(mode="json", exclude_none=True) for carrier in carriers]
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def cluster_of(carrier: Carrier) -> str:
    """The carrier's cluster; a carrier without one forms its own cluster (shared by exact copies)."""
    # The prefixes keep a user's cluster name from colliding with a digest.
    return f"named:{carrier.cluster}" if carrier.cluster is not None else f"own:{digest([carrier])}"


def split_ab(carriers: Sequence[Carrier], n: int, seed: int) -> tuple[tuple[Carrier, ...], tuple[Carrier, ...]]:
    """Halves A and B, ``n`` carriers in all (fewer if there are not enough), no cluster in both.

    Clusters are assigned two at a time, largest first, the larger of a pair to the half with fewer carriers so far, so
    that both halves get equally many clusters (up to one) and about equally many carriers. Each half is then cut to
    ``n // 2`` by :func:`subsample`; its order is balanced too, so any prefix of it is.

    Raises:
        InvalidAudit: a half would have fewer than 32 carriers or 8 clusters.
    """
    clusters = list(_by_cluster(carriers).values())
    order = random.Random(f"split:{seed}")
    order.shuffle(clusters)
    clusters.sort(key=len, reverse=True)
    halves: tuple[list[Carrier], list[Carrier]] = ([], [])
    counts = [0, 0]
    for pair in (clusters[at : at + 2] for at in range(0, len(clusters), 2)):
        tie = order.randrange(2)
        smaller = tie if len(halves[0]) == len(halves[1]) else int(len(halves[1]) < len(halves[0]))
        for side, cluster in zip((smaller, 1 - smaller), pair, strict=False):
            halves[side].extend(cluster)
            counts[side] += 1
    a, b = (subsample(half, n // 2, seed + side) for side, half in enumerate(halves))
    for half, clusters_there in ((a, len({cluster_of(c) for c in a})), (b, len({cluster_of(c) for c in b}))):
        if len(half) < MIN_CARRIERS or clusters_there < MIN_CLUSTERS:
            raise InvalidAudit(
                f"{len(carriers)} carriers in {len(clusters)} clusters cannot be split: a half would have {len(half)} "
                f"carriers in {clusters_there} clusters",
                hint=f"each half needs at least {MIN_CARRIERS} carriers and {MIN_CLUSTERS} clusters; add prompts, "
                "or ask for more carriers",
            )
    return a, b


def subsample(carriers: Sequence[Carrier], n: int, seed: int) -> tuple[Carrier, ...]:
    """``n`` distinct carriers (all, if there are fewer), taken in turn from every cluster, in seeded order.

    The first ``m < n`` of the result are the same as the result for ``m``.
    """
    order = random.Random(f"subsample:{seed}")
    clusters = list(_by_cluster(carriers).values())
    order.shuffle(clusters)
    for cluster in clusters:
        order.shuffle(cluster)
    longest = max(map(len, clusters), default=0)
    taken = [cluster[turn] for turn in range(longest) for cluster in clusters if turn < len(cluster)]
    return tuple(taken[:n])


def _by_cluster(carriers: Sequence[Carrier]) -> dict[str, list[Carrier]]:
    """Distinct carriers by cluster; sorted, so that the caller's order does not matter."""
    clusters: dict[str, dict[str, Carrier]] = {}
    for carrier in carriers:
        clusters.setdefault(cluster_of(carrier), {})[digest([carrier])] = carrier
    return {name: [clusters[name][key] for key in sorted(clusters[name])] for name in sorted(clusters)}
