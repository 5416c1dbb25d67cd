"""The clock of the machine."""

import time

import pytest

from jobs.clock import BootClock


def test_it_ticks_and_names_its_boot():
    clock = BootClock()
    first = clock.read(None)
    time.sleep(0.01)
    second = clock.read(None)
    assert second.tick - first.tick >= 0.01
    assert first.epoch == second.epoch


def test_where_there_is_no_boot_id_the_wall_clock_serves(tmp_path):
    reading = BootClock(tmp_path / "absent").read(None)
    assert reading.epoch == "wall"
    assert reading.tick == reading.at.timestamp()


def test_where_there_is_no_boot_time_clock_the_wall_clock_serves(monkeypatch, tmp_path):
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("this-boot\n")
    assert BootClock(boot_id).read(None).epoch == "this-boot"
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    reading = BootClock(boot_id).read(None)
    assert reading.epoch == "wall"
    assert reading.tick == pytest.approx(time.time(), abs=5)


def test_due_columns():
    now = BootClock().read(None)
    assert now.due_in(5) == {"due_tick": now.tick + 5, "due_epoch": now.epoch}
