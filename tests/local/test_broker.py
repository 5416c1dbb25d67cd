import os
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import redis

from local import broker


def _run(folder, socket_file):
    process = subprocess.Popen(
        broker.command(folder, socket_file),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    end = time.monotonic() + 10
    while not broker.answers(socket_file):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


def _stop(process):
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture
def short_folder():
    folder = Path(tempfile.mkdtemp(prefix="broker-test-", dir="/tmp"))  # pytest's own can be too long for a socket
    yield folder
    shutil.rmtree(folder)


def test_a_short_path_is_used_as_it_is(short_folder):
    with broker.socket_path(short_folder) as socket_file:
        assert socket_file == short_folder / "valkey.sock"


@pytest.mark.parametrize("name", ["x" * 120, "with space", "with#hash", "ünï"])
def test_a_path_that_no_socket_or_address_takes_is_replaced_and_cleared_away(short_folder, name):
    folder = short_folder / name
    folder.mkdir()
    with broker.socket_path(folder) as socket_file:
        assert len(os.fsencode(socket_file)) <= broker.SOCKET_PATH_BYTES
        assert socket_file.parent != folder
        assert stat.S_IMODE(socket_file.parent.stat().st_mode) == 0o700
        short = socket_file.parent
    assert not short.exists()


def test_what_a_killed_start_left_is_removed_by_the_next(short_folder):
    folder = short_folder / "with space"
    folder.mkdir()
    killed = broker.socket_path(folder)
    left = killed.__enter__().parent
    with broker.socket_path(folder) as socket_file:
        assert socket_file.parent != left
        assert not left.exists()
    assert list(folder.iterdir()) == []


def test_the_longest_path_is_bound_and_one_byte_more_is_not(short_folder):
    room = broker.SOCKET_PATH_BYTES - len(os.fsencode(short_folder / "valkey.sock")) - 1
    longest, longer = short_folder / ("a" * room), short_folder / ("b" * (room + 1))
    longest.mkdir()
    longer.mkdir()
    with broker.socket_path(longest) as socket_file:
        assert socket_file.parent == longest
        _stop(_run(longest, socket_file))
    with broker.socket_path(longer) as socket_file:
        assert socket_file.parent != longer


def test_the_queue_outlives_the_server_and_there_is_no_port(short_folder):
    folder = short_folder / "data with space"
    folder.mkdir()
    with broker.socket_path(folder) as socket_file:
        for expected in (1, 2):
            process = _run(folder, socket_file)
            try:
                with redis.Redis(unix_socket_path=str(socket_file)) as client:
                    assert client.lpush("audits", "audit_x") == expected
                    settings = client.config_get("*")
            finally:
                _stop(process)
    assert settings["port"] == "0"
    assert settings["appendonly"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"


def test_nothing_there_does_not_answer(short_folder):
    assert not broker.answers(short_folder / "valkey.sock")
