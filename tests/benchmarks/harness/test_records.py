"""Records are written whole or not at all, also where several processes write to one file."""

import json
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.harness.records import Line, read, read_all, write

WRITER = """
import sys
from pathlib import Path
from benchmarks.harness.records import Line, write
for number in range(int(sys.argv[3])):
    write(Line(Path(sys.argv[1]), f"{sys.argv[2]}.{number}"), {"number": number, "text": "x" * 20000})
    print(number, flush=True)
"""


def writer(file, name, count):
    command = [sys.executable, "-c", WRITER, str(file), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_record_comes_back_and_is_replaced_and_removed(tmp_path):
    file = tmp_path / "some.jsonl"
    assert read_all(file) == {}
    record = {"text": "naïve\nline\u2028separator", "values": [1.5, None, True], "deep": {"a": {"b": []}}}
    write(Line(file, "b"), record)
    write(Line(file, "a"), {"first": True})
    assert read(Line(file, "b")) == record
    assert list(read_all(file)) == ["a", "b"]
    assert len(file.read_bytes().splitlines()) == 2
    write(Line(file, "a"), {"first": False})
    assert read(Line(file, "a")) == {"first": False}
    read(Line(file, "a"))["first"] = "changed by a reader"
    assert read(Line(file, "a")) == {"first": False}
    Line(file, "a").unlink()
    assert not Line(file, "a").is_file()
    with pytest.raises(FileNotFoundError, match="holds no record named a"):
        read(Line(file, "a"))


def test_two_processes_lose_nothing(tmp_path):
    file = tmp_path / "some.jsonl"
    with writer(file, "one", 30) as first, writer(file, "two", 30) as second:
        assert (first.wait(60), second.wait(60)) == (0, 0)
    assert len(read_all(file)) == 60


def test_a_killed_writer_leaves_whole_lines_and_no_lock(tmp_path):
    file = tmp_path / "some.jsonl"
    with writer(file, "one", 10**6) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 20
    assert all(len(json.loads(line)["text"]) == 20000 for line in lines)
    write(Line(file, "two"), {})
    assert Line(file, "two").is_file()
