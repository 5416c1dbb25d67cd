"""``backdoor-audit doctor``: run for real, on a folder that nothing serves."""

import json

from backdoor_audit.cli.main import run
from local.doctor import environment


def test_it_names_what_is_bad_and_exits_2(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("BACKDOOR_AUDIT_BROKER_URL", raising=False)
    code = run(["doctor", "--data-dir", str(tmp_path), "--models-root", str(tmp_path / "nowhere"), "--json"])
    found = {each["name"]: each for each in json.loads(capfd.readouterr().out)}
    assert code == 2
    assert found["models root"]["state"] == "bad"
    assert found["models root"]["advice"]
    assert found["broker"]["state"] == "warning"
    assert "serve" in found["broker"]["advice"]


def test_the_socket_of_a_running_serve_is_found_where_its_path_was_too_long(tmp_path):
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "socket-folder").symlink_to("/tmp/backdoor-audit-short")
    settings = environment(tmp_path, tmp_path / "models", None, None)
    assert settings["BACKDOOR_AUDIT_BROKER_URL"] == "redis+socket:///tmp/backdoor-audit-short/valkey.sock"
    assert environment(tmp_path, tmp_path, None, "redis://h/0")["BACKDOOR_AUDIT_BROKER_URL"] == "redis://h/0"
