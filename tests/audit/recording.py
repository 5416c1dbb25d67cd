"""What tests of whole audits share: a workspace that remembers what was written, and what two runs differ in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage.folders import ArtifactFolder

MEASURED: Final = {"provenance": {"timings_s", "peak_memory_bytes", "cache_hits", "cache_misses"}}
"""What may differ between two runs of the same audit."""


class Counting(ArtifactFolder):
    """Remembers every folder that was written, in order."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written: list[str] = []

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        with super().create(name) as folder:
            yield folder
        self.written.append(name)
