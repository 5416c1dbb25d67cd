"""The blocking client is what the asynchronous one makes it."""

import subprocess
import sys

from tools import unasync


def test_the_committed_modules_are_the_generated_ones():
    assert unasync.main(["--check"]) == 0


def test_what_is_awaited_is_called():
    source = """async def f(self) -> AsyncIterator[int]:
    async with AsyncTransport() as asynchronous:
        await asyncio.sleep(1)
        return [x async for x in asynchronous]
"""
    expected = """def f(self) -> Iterator[int]:
    with Transport() as blocking:
        time.sleep(1)
        return [x for x in blocking]
"""
    assert unasync.blocking(source).split("\n", 1)[1] == expected


def test_a_changed_a_missing_and_a_left_over_module_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(unasync, "_CLIENT", tmp_path)
    monkeypatch.setattr(unasync, "TARGET", tmp_path / "blocking")
    assert unasync.main(["--write"]) == 0
    assert unasync.main(["--check"]) == 0
    (tmp_path / "blocking" / "client.py").write_text("")
    (tmp_path / "blocking" / "push.py").unlink()
    (tmp_path / "blocking" / "old.py").write_text("")
    assert unasync.main(["--check"]) == 1
    named = {line.split()[0] for line in capsys.readouterr().err.splitlines()}
    assert named == {"blocking/client.py", "blocking/push.py", "blocking/old.py"}


def test_it_imports_no_event_loop():
    code = "import sys, backdoor_audit.client.blocking; sys.exit('asynchronous' in str(list(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
