"""Looking at a checkpoint's folder without opening what is not allowed: names, links, kinds and sizes."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from models_store.errors import ModelRejected

MiB: Final = 1024**2
GiB: Final = 1024**3
MAX_TOTAL_BYTES: Final = 200 * GiB
MAX_ENTRIES: Final = 5_000
MAX_DEPTH: Final = 6

PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".dill"})
CODE: Final = frozenset({".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".ipynb"})
TEMPLATE_FOLDER: Final = "additional_chat_templates"

# What transformers and PEFT read, with the most bytes each may have. Weights are bounded by the folder's total.
READ_FILES: Final[dict[str, int]] = {
    "config.json": 1 * MiB,
    "generation_config.json": 1 * MiB,
    "adapter_config.json": 1 * MiB,
    "model.safetensors.index.json": 10 * MiB,
    "tokenizer.json": 38 * MiB,
    "tokenizer_config.json": 10 * MiB,
    "special_tokens_map.json": 1 * MiB,
    "added_tokens.json": 10 * MiB,
    "chat_template.jinja": 256 * 1024,
    # Copies of what tokenizer.json holds; allowed beside it, never instead of it.
    "vocab.json": 38 * MiB,
    "merges.txt": 64 * MiB,
    "tokenizer.model": 64 * MiB,
}
_IGNORED_SUFFIXES: Final = frozenset(
    {".md", ".txt", ".rst", ".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp", ".pdf", ".cff"}
)
_IGNORED_NAMES: Final = frozenset(
    {
        ".gitattributes",
        ".gitignore",
        "license",
        "licence",
        "notice",
        "readme",
        "card.json",
        "trainer_state.json",
        "all_results.json",
        "train_results.json",
        "eval_results.json",
    }
)
# Bookkeeping of git and of the hub's downloader; nothing reads a model from there.
_SKIPPED_FOLDERS: Final = frozenset({".git", ".cache"})
_PLAIN_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HUB_SNAPSHOT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class FoundFile:
    """A regular file of a checkpoint.

    Attributes:
        name: path relative to the checkpoint, with ``/``.
        path: the real file, links resolved.
        size: bytes.
    """

    name: str
    path: Path
    size: int


def shown(text: str, limit: int = 80) -> str:
    """``text`` for a message: printable ASCII, cut at ``limit``; it comes from a file nobody trusts."""
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    plain = "".join(character if character.isprintable() else "?" for character in plain)
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def default_root(folder: Path) -> Path:
    """The folder that links of a checkpoint may not leave: the hub repository's for a snapshot, else its own.

    The hub's cache keeps ``models--org--repo/snapshots/<commit>/file`` as links into ``models--org--repo/blobs``.
    """
    snapshots = folder.parent
    repository = snapshots.parent
    if (
        snapshots.name == "snapshots"
        and repository.name.startswith("models--")
        and _HUB_SNAPSHOT.fullmatch(folder.name)
    ):
        return repository
    return folder


def scan(folder: Path, root: Path) -> tuple[FoundFile, ...]:
    """List the files that transformers or PEFT would read, sorted by name.

    Args:
        folder: the checkpoint, links resolved.
        root: links may not lead out of this folder.

    Raises:
        ModelRejected: a pickle anywhere in the folder, code, a format that is not on the list, a link out of
            ``root``, something that is no regular file, too many entries, or too many bytes. The entry is named.
    """
    found: list[FoundFile] = []
    total = 0
    for name, path, status in _walk(folder, root):
        _refuse_by_name(name)
        if "/" in name and not name.startswith(f"{TEMPLATE_FOLDER}/"):
            continue  # Nothing reads subfolders; pickles and links in them are refused all the same.
        if not _is_read(name):
            continue
        _refuse_by_size(name, status.st_size)
        total += status.st_size
        found.append(FoundFile(name, path, status.st_size))
    if total > MAX_TOTAL_BYTES:
        raise ModelRejected(
            f"the checkpoint has {total} bytes, more than {MAX_TOTAL_BYTES}", hint="audit a smaller checkpoint"
        )
    return tuple(sorted(found, key=lambda file: file.name))


def linked_files(folder: Path, root: Path) -> tuple[Path, ...]:
    """Real paths, outside of ``folder``, of files that links in it lead to.

    Raises:
        ModelRejected: as ``scan`` does for links and kinds of files.
    """
    return tuple(path for _, path, _ in _walk(folder, root) if not path.is_relative_to(folder))


def takes(path: str) -> None:
    """Refuse a path that no file of an uploaded checkpoint may have.

    Raises:
        ModelRejected: a path that leads elsewhere, or a format that is not on the list.
    """
    parts = path.split("/")
    if not 0 < len(path) <= 200 or any(_PLAIN_PART.fullmatch(part) is None for part in parts):
        raise ModelRejected(
            f"{shown(path)}: is no name for a file of a checkpoint", hint="use letters, digits, '.', '_' and '-'"
        )
    _refuse_by_name(path)
    if path != "card.json" and not _is_read(path):
        raise ModelRejected(f"{shown(path)}: is not needed", hint="leave it out; it is not read")
    if "/" in path and not path.startswith(f"{TEMPLATE_FOLDER}/"):
        raise ModelRejected(f"{shown(path)}: is in a folder, and folders are not read", hint="leave it out")


def upload_limit(path: str) -> int:
    """The most bytes that an uploaded file of this name may have."""
    if path == "card.json":
        return 1 * MiB
    return READ_FILES["chat_template.jinja"] if path.endswith(".jinja") else READ_FILES.get(path, MAX_TOTAL_BYTES)


def open_regular(path: Path, name: str) -> BinaryIO:
    """Open a file for reading; never follows a link and never waits for a FIFO that was put in its place.

    Raises:
        ModelRejected: it is gone, is a link, or is no regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise ModelRejected(
            f"{shown(name)}: cannot be opened ({error.strerror})", hint="make the file readable, or copy it again"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelRejected(f"{shown(name)}: is not a regular file", hint="put a copy of the file in its place")
    return os.fdopen(descriptor, "rb")


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Regular files below ``folder`` as (relative name, real path, status); linked folders are not entered."""
    entries = 0
    pending: list[tuple[Path, str, int]] = [(folder, "", 0)]
    while pending:
        current, prefix, depth = pending.pop()
        try:
            listing = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            raise ModelRejected(
                f"{shown(prefix or folder.name)}: cannot be listed ({error.strerror})", hint="make the folder readable"
            ) from error
        for entry in listing:
            entries += 1
            if entries > MAX_ENTRIES:
                raise ModelRejected(
                    f"the folder holds more than {MAX_ENTRIES} entries", hint="point at the checkpoint's own folder"
                )
            name = prefix + entry.name
            path, status = _inside(entry, name, root)
            if stat.S_ISDIR(status.st_mode):
                if entry.is_symlink() or (depth == 0 and entry.name in _SKIPPED_FOLDERS):
                    continue
                if depth + 1 > MAX_DEPTH:
                    raise ModelRejected(f"{shown(name)}: folders are nested too deep", hint="remove the folder")
                pending.append((Path(entry.path), name + "/", depth + 1))
            elif stat.S_ISREG(status.st_mode):
                yield name, path, status
            else:
                raise ModelRejected(
                    f"{shown(name)}: is a device, a FIFO or a socket", hint="a checkpoint holds regular files only"
                )


def _inside(entry: "os.DirEntry[str]", name: str, root: Path) -> tuple[Path, os.stat_result]:
    """The real path of an entry and its status, links followed, when it stays inside ``root``."""
    try:
        if not entry.is_symlink():
            return Path(entry.path), entry.stat(follow_symlinks=False)
        real = Path(entry.path).resolve(strict=True)
        status = real.lstat()
    except (OSError, RuntimeError) as error:
        raise ModelRejected(
            f"{shown(name)}: is a link that leads nowhere", hint="copy the file that it should point to"
        ) from error
    if not real.is_relative_to(root):
        raise ModelRejected(
            f"{shown(name)}: is a link out of the models' folder", hint="put a copy of the file in its place"
        )
    return real, status


def _refuse_by_name(name: str) -> None:
    suffix = Path(name).suffix.lower()
    if suffix in PICKLES:
        raise ModelRejected(
            f"{shown(name)}: may be a pickle, and pickles can run code",
            hint="save the weights as safetensors and delete this file (training_args.bin and optimizer.pt too)",
        )
    if suffix in CODE:
        raise ModelRejected(f"{shown(name)}: holds code", hint="delete it; code of a checkpoint is never run")


def _is_read(name: str) -> bool:
    if name in READ_FILES or name.endswith(".safetensors"):
        return True
    if name.startswith(f"{TEMPLATE_FOLDER}/"):
        if name.count("/") == 1 and name.endswith(".jinja"):
            return True
    elif Path(name).suffix.lower() in _IGNORED_SUFFIXES or name.lower() in _IGNORED_NAMES:
        return False
    raise ModelRejected(
        f"{shown(name)}: is not on the list of files that a checkpoint may hold",
        hint="delete it; allowed are safetensors, config.json, tokenizer.json and their kin, and documents",
    )


def _refuse_by_size(name: str, size: int) -> None:
    limit = READ_FILES["chat_template.jinja"] if name.endswith(".jinja") else READ_FILES.get(name, MAX_TOTAL_BYTES)
    if size > limit:
        raise ModelRejected(f"{shown(name)}: has {size} bytes, more than {limit}", hint="make it smaller")
