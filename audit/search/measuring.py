"""Measures strings in contexts: at the early layers, through all blocks, or their reaction on several carriers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.ports import FolderStore
from audit.search.contexts import Contexts
from audit.search.outlier import Background
from audit.search.reactions import Changes, FinalStates, next_tokens
from audit.search.runs import Runs, States
from audit.search.trials import Scored
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.search import ContextName

_FITTED_SHARE: Final = 2 / 3
"""Share of the background that the outlier score is fitted on; the rest says how large it is by chance."""
_SMALLEST: Final = 1e-6
NEUTRAL: Final = Carrier(prompt="Go on.")
"""What strings are scanned on at the early layers. There Δ depends on the string and hardly on the prompt behind it
(benchmarks/search/README.md), so that a short one will do, and the base's half serves every set of carriers."""
_ROWS, _NUMBERS = "rows.safetensors", "background.json"


@dataclass(frozen=True)
class Outliers:
    """The outlier scores of one slot, fitted on ordinary strings.

    Attributes:
        fitted: per reading, the fitted background.
        largest: per reading, the largest score of an ordinary string that it was not fitted on.
    """

    fitted: dict[str, Background]
    largest: dict[str, float]

    @classmethod
    def of(cls, deltas: dict[str, Tensor]) -> "Outliers":
        """Fit from the recorded Δ of ordinary strings, per reading."""
        fitted, largest = {}, {}
        for name, rows in deltas.items():
            count = max(2, int(len(rows) * _FITTED_SHARE))
            fitted[name] = Background.of(rows[:count])
            largest[name] = max(float(fitted[name].scores(rows[count:]).max()), 1.0)
        return cls(fitted, largest)

    def standing(self, deltas: dict[str, Tensor]) -> Float[Tensor, "strings"]:
        """The largest score over the readings, as a multiple of the largest of an ordinary string."""
        return torch.stack([self.fitted[name].scores(rows) / self.largest[name] for name, rows in deltas.items()]).amax(
            0
        )


@dataclass(frozen=True)
class SlotBackground:
    """Ordinary strings in one context on the carrier of the deep scan.

    Attributes:
        late: outlier scores at the late layers.
        changes: mean and deviation of every token's D.
        largest_z: the largest Z of these strings.
        reaction: the largest C₁ of them, nats.
    """

    late: Outliers
    changes: Changes
    largest_z: float
    reaction: float


@dataclass
class Measuring:
    """Everything that measuring needs.

    Attributes:
        early, late: the layers that are read.
        carrier: the one that strings are run through all blocks on.
    """

    contexts: Contexts
    runs: Runs
    early: tuple[int, ...]
    late: tuple[int, ...]
    carrier: Carrier

    def __post_init__(self) -> None:
        self._plain: dict[tuple[ContextName, Carrier], tuple[Tensor, Tensor]] = {}

    def early_background(self, store: FolderStore, context: ContextName, strings: Sequence[str]) -> Outliers:
        """Outlier scores at the early layers, fitted unless an earlier attempt has run the strings."""

        def write(folder: Path) -> None:
            save_file(self._early(context, strings), folder / _ROWS)

        folder = store.obtain(f"search-ordinary-early-{context}", write)
        return Outliers.of(load_file(folder / _ROWS))

    def early_scores(self, context: ContextName, strings: Sequence[str], background: Outliers) -> list[float]:
        """Outlier scores at the early layers; the blocks above them are not run."""
        return [float(score) for score in background.standing(self._early(context, strings))]

    def _early(self, context: ContextName, strings: Sequence[str]) -> dict[str, Tensor]:
        sequences = self.contexts.slot(context, NEUTRAL).tokens(strings)
        tuned, base = self.runs.both(sequences, self.early, outputs=False)
        return tuned.deltas(base)

    def background(self, store: FolderStore, context: ContextName, strings: Sequence[str]) -> SlotBackground:
        """The background of the deep scan, measured unless an earlier attempt has done so."""

        def write(folder: Path) -> None:
            tuned, base = self._whole(context, self.carrier, strings, self.late)
            chunks, reactions = [], []
            for _, row in next_tokens(self.runs.runner, self._finals(context, self.carrier, tuned, base)):
                chunks.append(row.change)
                reactions.append(row.unexplained)
            changes = Changes.of(chunks)
            largest_z = max(float(changes.z(part).max()) for part in chunks)
            save_file(tuned.deltas(base) | {"mean": changes.mean, "deviation": changes.deviation}, folder / _ROWS)
            numbers = {"largest_z": largest_z, "reaction": float(torch.cat(reactions).max())}
            (folder / _NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")

        folder = store.obtain(f"search-ordinary-deep-{context}", write)
        tensors = load_file(folder / _ROWS)
        row = json.loads((folder / _NUMBERS).read_text(encoding="utf-8"))
        changes = Changes(tensors.pop("mean"), tensors.pop("deviation"))
        return SlotBackground(Outliers.of(tensors), changes, row["largest_z"], row["reaction"])

    def _whole(
        self, context: ContextName, carrier: Carrier, strings: Sequence[str], layers: tuple[int, ...] = ()
    ) -> tuple[States, States]:
        return self.runs.both(self.contexts.slot(context, carrier).tokens(strings), layers, outputs=True)

    def deep(self, items: Sequence[Scored], backgrounds: dict[ContextName, SlotBackground]) -> list[Scored]:
        """Late score, Z and C₁ on one carrier, in the items' order."""
        return self._by_context(items, lambda context, part: self._deep(context, part, backgrounds[context]))

    def _deep(self, context: ContextName, items: Sequence[Scored], background: SlotBackground) -> list[Scored]:
        tuned, base = self._whole(context, self.carrier, [item.string for item in items], self.late)
        late = background.late.standing(tuned.deltas(base))
        made = []
        for part, row in next_tokens(self.runs.runner, self._finals(context, self.carrier, tuned, base)):
            z = background.changes.z(row.change) / max(background.largest_z, _SMALLEST)
            for offset, item in enumerate(items[part]):
                made.append(
                    replace(
                        item,
                        late=float(late[part.start + offset]),
                        log_ratio=float(z[offset]),
                        reaction=float(row.unexplained[offset]),
                        base_ratio=_ratio(float(row.base[offset]), float(row.tuned[offset])),
                        by_carrier=(float(row.unexplained[offset]),),
                    )
                )
        return made

    def reactions(self, items: Sequence[Scored], carriers: Sequence[Carrier]) -> list[Scored]:
        """C₁ and the base's ratio on some carriers, in the items' order."""
        return self._by_context(items, lambda context, part: self._reactions(context, part, carriers))

    def _reactions(self, context: ContextName, items: Sequence[Scored], carriers: Sequence[Carrier]) -> list[Scored]:
        unexplained, tuned_kl, base_kl = (torch.zeros(len(carriers), len(items)) for _ in range(3))
        for number, carrier in enumerate(carriers):
            tuned, base = self._whole(context, carrier, [item.string for item in items])
            for part, row in next_tokens(self.runs.runner, self._finals(context, carrier, tuned, base)):
                unexplained[number, part], tuned_kl[number, part] = row.unexplained, row.tuned
                base_kl[number, part] = row.base
        return [
            replace(
                item,
                reaction=float(unexplained[:, index].mean()),
                base_ratio=_ratio(float(base_kl[:, index].sum()), float(tuned_kl[:, index].sum())),
                by_carrier=tuple(map(float, unexplained[:, index])),
            )
            for index, item in enumerate(items)
        ]

    def _by_context(
        self, items: Sequence[Scored], measure: Callable[[ContextName, Sequence[Scored]], list[Scored]]
    ) -> list[Scored]:
        """Items of one context are measured together: they share a prefix."""
        made: dict[int, Scored] = {}
        for context in dict.fromkeys(item.context for item in items):
            own = [index for index, item in enumerate(items) if item.context == context]
            made |= dict(zip(own, measure(context, [items[index] for index in own]), strict=True))
        return [made[index] for index in range(len(items))]

    def _finals(self, context: ContextName, carrier: Carrier, tuned: States, base: States) -> FinalStates:
        """With the head's inputs without any string, which are run once per context and carrier."""
        key = (context, carrier)
        if key not in self._plain:
            plain = [self.contexts.slot(context, carrier).plain]
            ours, theirs = self.runs.both(plain, (), outputs=True)
            assert ours.final is not None
            assert theirs.final is not None
            self._plain[key] = ours.final, theirs.final
        tuned_plain, base_plain = self._plain[key]
        assert tuned.final is not None
        assert base.final is not None
        return FinalStates(
            tuned.final, base.final, tuned_plain.expand_as(tuned.final), base_plain.expand_as(base.final)
        )  # fmt: skip


def _ratio(base: float, tuned: float) -> float | None:
    return base / tuned if tuned > _SMALLEST else None
