"""How many bytes models and uploads may have: one owner's, and all owners' together."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from models_store.committed import owner_of
from models_store.errors import NoSpace, StoreError, StoreFull
from storage.folders import ArtifactFolder
from storage.trees import tree_bytes


@dataclass(frozen=True)
class Room:
    """How many bytes there is room for; None is no bound.

    Attributes:
        owners: of one owner.
        everybodys: of all owners.
    """

    owners: int | None = None
    everybodys: int | None = None

    def beside(self, own: int, all_owners: int) -> "Room":
        """What is left when the owner has taken ``own`` bytes of it, and all owners ``all_owners``."""
        return Room(
            None if self.owners is None else self.owners - own,
            None if self.everybodys is None else self.everybodys - all_owners,
        )

    def check(self, size: int) -> None:
        """Refuse what takes ``size`` bytes if there is less room.

        Raises:
            StoreFull: the owner's is used up.
            NoSpace: everybody's is.
        """
        if self.owners is not None and size > self.owners:
            raise StoreFull(
                f"there is room for {max(self.owners, 0)} more bytes of yours, and this takes {size}",
                hint="delete a model that is no longer needed: backdoor-audit models delete NAME",
            )
        if self.everybodys is not None and size > self.everybodys:
            raise NoSpace(
                "the models in the store are as large as they may be together",
                hint="delete models, or raise BACKDOOR_AUDIT_MODELS_TOTAL_GB",
            )


class CommittedModels:
    """The models of the store by owner and size. Safe to share between threads.

    Args:
        models: their folder.
        owner_limit_bytes: the most bytes that one owner's models and uploads may have together; None is no bound.
        total_limit_bytes: the most bytes that all of them may have; nine tenths of the disk by default.
    """

    def __init__(self, models: ArtifactFolder, *, owner_limit_bytes: int | None, total_limit_bytes: int | None) -> None:
        self._models, self._owner_limit, self._total_limit = models, owner_limit_bytes, total_limit_bytes
        self._known: dict[str, tuple[int, str | None, int]] = {}

    def count(self, owner: str) -> int:
        """How many of them are this owner's."""
        return sum(one == owner for one, _ in self._each())

    def room(self, owner: str) -> Room:
        """What this owner, and everybody, may have beside them."""
        each = list(self._each())
        own = None
        if self._owner_limit is not None:
            own = self._owner_limit - sum(size for one, size in each if one == owner)
        return Room(own, self._total() - sum(size for _, size in each))

    def _total(self) -> int:
        if self._total_limit is not None:
            return self._total_limit
        root = self._models.root
        there = next(folder for folder in (root, *root.parents) if folder.exists())
        return shutil.disk_usage(there).total * 9 // 10

    def _each(self) -> Iterator[tuple[str | None, int]]:
        """Owner and bytes of each model. A model never changes, so it is measured once."""
        names = list(self._models.names())
        for gone in set(self._known.copy()).difference(names):
            self._known.pop(gone, None)
        for name in names:
            place = self._models.root / name
            with suppress(OSError, StoreError):  # deleted meanwhile
                inode, known = place.stat().st_ino, self._known.get(name)
                if known is None or known[0] != inode:
                    known = self._known[name] = inode, owner_of(place), tree_bytes(place)
                yield known[1], known[2]
