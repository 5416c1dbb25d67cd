"""Statements, attestations and bills of materials, from the running service."""

import base64
import hashlib
import json

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from backdoor_audit.contract.attestation import Statement
from service.attestations.examples import ANSWERS, STATEMENT
from service.dependencies import Dependencies
from service.errors import StartupError
from service.openapi_document import committed
from service.openapi_document.report_examples import REPORT
from service.settings import Settings

DECISION = {"decision": "accepted", "decided_by": "Ann", "because": "The year was meant."}


@pytest.fixture
def finished(served):
    audit_id = served.file()
    served.succeed(audit_id)
    return audit_id


def test_the_statement_names_files_verdict_and_decisions(served, finished):
    answer = served.http.get(f"/audits/{finished}/statement")
    assert answer.headers["content-type"] == "application/vnd.in-toto+json"
    document = answer.json()
    schema = json.loads((committed.FOLDER / committed.ATTESTATION_SCHEMA).read_text())
    jsonschema.Draft202012Validator(schema).validate(document["predicate"])
    statement = Statement.model_validate_json(answer.content)
    predicate = statement.predicate
    assert predicate.verdict == REPORT["verdict"]
    assert predicate.spec_digest == REPORT["provenance"]["spec_digest"]
    assert [file.name for file in predicate.resources] == ["adapter_config.json", "adapter_model.safetensors"]
    assert len(predicate.base.resources) == len(REPORT["provenance"]["base_files"])
    assert predicate.decisions == ()
    served.http.post(f"/audits/{finished}/decisions", json=DECISION).raise_for_status()
    decided = served.http.get(f"/audits/{finished}/statement", headers={"If-None-Match": answer.headers["etag"]})
    assert decided.status_code == 200
    assert decided.json()["predicate"]["decisions"][0]["because"] == DECISION["because"]
    etag = decided.headers["etag"]
    assert served.http.get(f"/audits/{finished}/statement", headers={"If-None-Match": etag}).status_code == 304


def test_the_report_that_was_saved_is_the_one_that_the_statement_binds(served, finished):
    report = served.http.get(f"/audits/{finished}/report").content
    predicate = served.http.get(f"/audits/{finished}/statement").json()["predicate"]
    assert predicate["report_digest"] == hashlib.sha256(report).hexdigest()


def test_a_service_with_a_key_signs(serve, signing_key):
    path, private = signing_key
    served = serve(signing_key_file=path)
    audit_id = served.file()
    served.succeed(audit_id)
    answer = served.http.get(f"/audits/{audit_id}/attestation")
    envelope = Envelope.from_dict(answer.json())
    public = SSlibKey.from_crypto(private.public_key())
    assert envelope.verify([public], 1)
    assert envelope.payload == served.http.get(f"/audits/{audit_id}/statement").content
    with pytest.raises(Exception, match="threshold"):
        envelope.verify([SSlibKey.from_crypto(ed25519.Ed25519PrivateKey.generate().public_key())], 1)


def test_a_service_without_one_says_so(served, finished):
    answer = served.http.get(f"/audits/{finished}/attestation")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_signing_key")


@pytest.mark.parametrize("content", [b"no key", None])
def test_a_key_that_cannot_sign_ends_the_start(tmp_path, content):
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError, match="SIGNING_KEY_FILE"):
        Dependencies.open(Settings(data_dir=tmp_path, models_root=tmp_path, signing_key_file=path))


@pytest.mark.parametrize("what", ["statement", "attestation", "bom"])
def test_without_a_report_or_its_files_there_is_nothing_to_hand_on(served, what):
    audit_id = served.file()
    path = f"/audits/{audit_id}/{what}"
    assert served.http.get(path).json()["code"] == "report_not_ready"
    served.succeed(audit_id, provenance=REPORT["provenance"] | {"tuned_files": []})
    assert served.http.get(path).json()["code"] == "files_unknown"
    assert served.http.get(f"/audits/audit_{'0' * 26}/{what}").status_code == 404


@pytest.mark.parametrize("verdict", ["flagged", "review", "no_evidence", "invalid"])
def test_the_bill_of_materials_is_valid_by_the_official_schema(served, verdict):
    audit_id = served.file()
    served.succeed(audit_id, verdict=verdict)
    served.http.post(f"/audits/{audit_id}/decisions", json=DECISION).raise_for_status()
    answer = served.http.get(f"/audits/{audit_id}/bom")
    assert answer.headers["content-type"].startswith("application/vnd.cyclonedx+json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(answer.text) is None
    document = answer.json()
    tuned, (base,) = document["metadata"]["component"], document["components"]
    assert {tuned["type"], base["type"]} == {"machine-learning-model"}
    subject = served.http.get(f"/audits/{audit_id}/statement").json()["subject"][0]
    assert tuned["name"] == subject["name"]
    assert tuned["hashes"] == [{"alg": "SHA-256", "content": subject["digest"]["sha256"]}]
    assert tuned["pedigree"]["ancestors"][0]["hashes"] == base["hashes"]
    names = {part["name"]: part["hashes"][0]["content"] for part in tuned["components"]}
    for file in REPORT["provenance"]["tuned_files"]:
        assert names[file["name"]] == file["sha256"]
    template = REPORT["provenance"]["tuned_template_digest"].removeprefix("sha256:")
    assert names["chat template"] == template
    values = {each["name"]: each["value"] for each in tuned["properties"]}
    assert values["backdoor-audit:verdict"] == verdict
    assert values["backdoor-audit:decision"] == "accepted"
    assert values["backdoor-audit:kind"] == "adapter"
    assert {each["type"] for each in tuned["externalReferences"]} == {"evidence", "attestation"}
    assert served.http.get(f"/audits/{audit_id}/bom").content == answer.content


def test_what_only_the_owner_may_see(serve, signing_key):
    served = serve(require_keys=True, signing_key_file=signing_key[0])
    keys = served.dependencies.ledger.keys
    tokens = [keys.create(owner=owner, name="x", scopes=["audits:read", "audits:write"])[1] for owner in ("ann", "bob")]
    served.http.headers["Authorization"] = f"Bearer {tokens[0]}"
    audit_id = served.file()
    served.succeed(audit_id)
    for what in ("statement", "attestation", "bom"):
        served.http.headers["Authorization"] = f"Bearer {tokens[0]}"
        assert served.http.get(f"/audits/{audit_id}/{what}").status_code == 200
        served.http.headers["Authorization"] = f"Bearer {tokens[1]}"
        assert served.http.get(f"/audits/{audit_id}/{what}").status_code == 404


def test_the_example_attestation_begins_like_its_statement():
    payload = ANSWERS["attestation"]["value"]["payload"]
    assert STATEMENT.encoded().startswith(base64.b64decode(payload))
