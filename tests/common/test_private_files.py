"""The data folder is its user's alone, also where an earlier version left it open."""

import stat
from pathlib import Path

import pytest

from common.private_files import PublicFolder, keep_private, open_to_others


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "logs").mkdir(parents=True)
    folder.chmod(0o755)
    files = [folder / "ledger.sqlite3", folder / "ledger.sqlite3-wal", folder / "logs" / "worker.log"]
    elsewhere = tmp_path / "elsewhere"
    for file in (*files, elsewhere):
        file.write_text("secret")
        file.chmod(0o664)
    (folder / "logs" / "link.log").symlink_to(elsewhere)
    assert set(open_to_others(folder)) == {folder, *files}
    keep_private(folder)
    assert list(open_to_others(folder)) == []
    assert [mode(path) for path in (folder, *files)] == [0o700, 0o600, 0o600, 0o600]
    assert mode(elsewhere) == 0o664


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    keep_private(tmp_path / "a" / "data")
    assert mode(tmp_path / "a" / "data") == 0o700


def test_a_folder_that_everybody_writes_to_is_refused_and_left(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(PublicFolder):
        keep_private(tmp_path)
    assert mode(tmp_path) == 0o1777
