import json
import shutil

import httpx
import pytest

from backdoor_audit.cli.main import run
from backdoor_audit.client import calls, checkpoint_files
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.blocking.push import push_file
from backdoor_audit.client.errors import InvalidRequest, OtherContent, WrongUsage


@pytest.fixture
def checkpoint(tmp_path, toy_adapter):
    """An adapter with what training leaves beside it."""
    folder = tmp_path / "My Adapter"
    shutil.copytree(toy_adapter, folder)
    (folder / "README.md").write_text("about")
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / ".gitattributes").write_text("")
    return folder


def test_a_folder_is_pushed_and_pushing_it_again_sends_nothing(service, checkpoint):
    said = []
    with AuditClient(service.url) as client:
        model = client.push(checkpoint, say=said.append)
        assert model.reference.startswith("store:my-adapter-")
        assert model.kind == "lora"
        assert "Ignored, because no model is read from it: .gitattributes, README.md, training_args.bin" in said
        said.clear()
        again = client.push(checkpoint, say=said.append)
        assert again.digest == model.digest
        assert not [line for line in said if line.startswith("Sending")]
        client.delete_model(model.reference.removeprefix("store:"))
        assert model.reference not in {one.reference for one in client.models()}


def test_a_push_goes_on_where_it_broke_off(service, checkpoint, monkeypatch):
    monkeypatch.setattr(checkpoint_files, "PART_BYTES", 1_000)
    said, sent = [], []
    with AuditClient(service.url) as client:
        ask = client._transport.http.request

        def unreliable(method, *arguments, headers, **more):
            if method == "PUT":
                sent.append(headers["Content-Range"])
                if len(sent) in (2, 5):
                    raise httpx.ReadError("the line is dead")
            return ask(method, *arguments, headers=headers, **more)

        monkeypatch.setattr(client._transport.http, "request", unreliable)
        model = client.push(checkpoint, "resumed", say=said.append)
    assert model.reference == "store:resumed"
    assert any("resuming at byte" in line for line in said)
    starts = [text.split()[1].split("-")[0] for text in sent]
    assert len(sent) == len(set(sent)) + 2, f"only the two lost parts are sent twice: {starts}"


def test_a_commit_that_is_under_way_is_asked_for_again(service, checkpoint, monkeypatch):
    said, asked = [], []
    with AuditClient(service.url) as client:
        ask = client._transport.http.request

        def slow(method, url, **more):
            if url.endswith("/commit"):
                asked.append(url)
                if len(asked) < 3:
                    request = httpx.Request(method, service.url + url)
                    return httpx.Response(
                        202, json={"status": "checking"}, headers={"Retry-After": "0"}, request=request
                    )
            return ask(method, url, **more)

        monkeypatch.setattr(client._transport.http, "request", slow)
        assert client.push(checkpoint, "checked", say=said.append).reference == "store:checked"
    assert len(asked) == 3
    assert said.count("All files are there; the service checks them") == 1


def test_a_file_that_the_commit_will_check_is_not_sent_again(service, checkpoint, monkeypatch):
    said = []
    with AuditClient(service.url) as client:
        ask = client._transport.http.request

        def unseen(method, url, **more):
            response = ask(method, url, **more)
            if method == "HEAD":
                response.headers.pop("repr-digest", None)
            return response

        monkeypatch.setattr(client._transport.http, "request", unseen)
        files = checkpoint_files.files_of(checkpoint, lambda line: None)
        for _ in range(2):
            said.clear()
            for file in files:
                push_file(client._transport, "unseen", file, said.append)
    assert said == []


def test_the_beginning_of_another_file_is_found_out(service, checkpoint):
    with AuditClient(service.url) as client:
        weights = checkpoint / "adapter_model.safetensors"
        other = bytes(100)
        size = weights.stat().st_size
        digest = checkpoint_files.CheckpointFile("x", weights, size, "00" * 32).digest_header
        client._send(calls.upload_part("mixed", weights.name, other, f"bytes 0-99/{size}", digest))
        assert client.push(checkpoint, "mixed").reference == "store:mixed"


def test_what_is_wrong_with_a_checkpoint_is_said(service, checkpoint, tmp_path):
    (checkpoint / "adapter_config.json").write_text("{}")
    with AuditClient(service.url) as client:
        with pytest.raises(InvalidRequest, match="adapter_config"):
            client.push(checkpoint, "broken")
        with pytest.raises(InvalidRequest):
            client.push(checkpoint, "Not A Name")
        with pytest.raises(WrongUsage, match="no safetensors"):
            client.push(tmp_path)


def test_the_command_pushes_and_submit_pushes_first(service, checkpoint, toy_base, monkeypatch, capfd):
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)
    assert run(["models", "push", str(checkpoint), "--name", "by-command"]) == 0
    assert capfd.readouterr().out.strip() == "store:by-command"
    arguments = ["submit", "--base", str(toy_base), "--tuned", str(checkpoint), "--triggered", "a", "--clean", "b"]
    assert run(arguments) == 0
    spec = service.ledger.get(capfd.readouterr().out.strip()).spec
    assert spec.base_model.startswith("store:base-")
    assert spec.fine_tuned.startswith("store:my-adapter-")


def squatted(service, checkpoint, toy_adapter, tmp_path):
    """The default name of ``checkpoint``, under which somebody else has committed an adapter with other weights."""
    other = tmp_path / "other"
    shutil.copytree(toy_adapter, other)
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] * 2}))
    name = checkpoint_files.name_for(checkpoint, checkpoint_files.files_of(checkpoint, lambda line: None))
    with AuditClient(service.url) as client:
        client.push(other, name)
    return name


def test_other_weights_under_the_default_name_are_found_out(service, checkpoint, toy_adapter, tmp_path):
    (checkpoint / "chat_template.jinja").write_text("{{ messages }}")
    name = squatted(service, checkpoint, toy_adapter, tmp_path)
    with AuditClient(service.url) as client:
        with pytest.raises(OtherContent, match=f"store:{name} is not the folder that was pushed"):
            client.push(checkpoint)
        assert client.push(checkpoint, "a-name-of-my-own").reference == "store:a-name-of-my-own"


def test_neither_command_goes_on_with_other_weights(
    service, checkpoint, toy_adapter, toy_base, tmp_path, monkeypatch, capfd
):
    (checkpoint / "chat_template.jinja").write_text("{{ messages }} ")
    squatted(service, checkpoint, toy_adapter, tmp_path)
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)
    assert run(["models", "push", str(checkpoint)]) == 4
    said = capfd.readouterr()
    assert said.out == ""
    assert "--name" in said.err
    arguments = ["submit", "--base", str(toy_base), "--tuned", str(checkpoint), "--triggered", "a", "--clean", "b"]
    assert run(arguments) == 4
    assert capfd.readouterr().out == ""


def test_a_file_that_changes_between_hashing_and_sending_is_never_committed(service, checkpoint, monkeypatch):
    real = checkpoint_files.files_of

    def changed_afterwards(folder, say):
        files = real(folder, say)
        template = folder / "chat_template.jinja"
        template.write_text(template.read_text().replace("a", "b"))
        return files

    (checkpoint / "chat_template.jinja").write_text("aaaa")
    monkeypatch.setattr(checkpoint_files, "files_of", changed_afterwards)
    with AuditClient(service.url) as client, pytest.raises(InvalidRequest, match="not the one that was sent"):
        client.push(checkpoint, "changing")
