import copy
import json
import subprocess

import pytest

from service.openapi_document import committed
from tools.compare_openapi import differences, interface, main


@pytest.fixture(scope="module")
def document():
    return json.loads((committed.FOLDER / committed.DOCUMENT).read_text(encoding="utf-8"))


@pytest.fixture
def changed(document):
    return copy.deepcopy(document)


def audit_schema(document):
    return document["components"]["schemas"]["AuditOut"]


def drop_field(document):
    del audit_schema(document)["properties"]["stage"]


def rename_field(document):
    properties = audit_schema(document)["properties"]
    properties["phase"] = properties.pop("stage")


def change_type(document):
    audit_schema(document)["properties"]["progress"]["type"] = "string"


def make_optional(document):
    audit_schema(document)["required"].remove("stage")


def drop_choice(document):
    document["components"]["schemas"]["AuditSpec"]["properties"]["preset"]["enum"].remove("quick")


def loosen_limit(document):
    document["components"]["schemas"]["AuditSpec"]["properties"]["base_model"]["maxLength"] += 1


def drop_path(document):
    del document["paths"]["/models"]


def drop_method(document):
    del document["paths"]["/keys"]["get"]


def drop_status(document):
    del document["paths"]["/audits"]["get"]["responses"]["503"]


def drop_parameter(document):
    document["paths"]["/audits"]["get"]["parameters"].pop()


def drop_problem_code(document):
    del document["components"]["responses"]["audit_not_found"]["content"]["application/problem+json"]["examples"][
        "audit_not_found"
    ]


def change_problem_code(document):
    document["components"]["examples"]["audit_not_found"]["value"]["code"] = "no_such_audit"


def change_scope(document):
    document["paths"]["/keys"]["get"]["security"] = [{"key": ["audits:read"]}]


def drop_header(document):
    del document["paths"]["/audits"]["post"]["responses"]["202"]["headers"]["Location"]


def drop_media_type(document):
    del document["paths"]["/audits/{audit_id}/report"]["get"]["responses"]["200"]["content"]["application/sarif+json"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (drop_field, "removed: schema AuditOut: field stage"),
        (rename_field, "added: schema AuditOut: field phase"),
        (change_type, 'changed: schema AuditOut: field progress: type: "number" is now "string"'),
        (make_optional, 'removed: schema AuditOut: required "stage"'),
        (drop_choice, 'removed: schema AuditSpec: field preset: enum "quick"'),
        (loosen_limit, "changed: schema AuditSpec: field base_model: maxLength: 512 is now 513"),
        (drop_path, "removed: GET /models"),
        (drop_method, "removed: GET /keys"),
        (drop_status, "removed: GET /audits: 503"),
        (drop_parameter, "removed: GET /audits: query parameter page_size"),
        (drop_problem_code, "removed: GET /audits/{audit_id}: 404: problem code audit_not_found"),
        (change_problem_code, "added: GET /audits/{audit_id}: 404: problem code no_such_audit"),
        (change_scope, "changed: GET /keys: security key: admin is now audits:read"),
        (drop_header, "removed: POST /audits: 202: header Location"),
        (drop_media_type, "removed: GET /audits/{audit_id}/report: 200: application/sarif+json"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_change_of_the_interface_is_reported(document, changed, change, line):
    change(changed)
    found = differences(document, changed)
    assert [each for each in found if each.startswith(line)], found
    assert differences(changed, document)


def test_prose_and_examples_may_change(document, changed):
    changed["info"]["title"] = "Front door"
    changed["paths"]["/audits"]["get"]["summary"] = "Audits"
    changed["components"]["examples"]["audit_not_found"]["value"]["title"] = "Gone"
    audit_schema(changed)["description"] = "An audit."
    audit_schema(changed)["properties"]["progress"]["examples"] = [0.5]
    assert differences(document, changed) == []


def test_a_field_may_be_called_like_prose(document, changed):
    del changed["components"]["schemas"]["Problem"]["properties"]["title"]
    assert "removed: schema Problem: field title" in differences(document, changed)


def test_a_reference_stands_for_what_it_refers_to(document, changed):
    operation = changed["paths"]["/audits"]["get"]
    reference = operation["responses"]["503"]["$ref"].rsplit("/", 1)[-1]
    operation["responses"]["503"] = changed["components"]["responses"][reference]
    assert differences(document, changed) == []


def test_the_command_compares_files_and_revisions(document, changed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text(json.dumps(document))
    assert main(["old.json", "old.json"]) == 0
    assert str(len(interface(document))) in capsys.readouterr().out
    drop_field(changed)
    (tmp_path / "new.json").write_text(json.dumps(changed))
    assert main(["old.json", "new.json"]) == 1
    assert "field stage" in capsys.readouterr().out
    for command in (["init", "-q"], ["add", "old.json"]):
        subprocess.run(["git", *command], check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, "commit", "-q", "-m", "Old"], check=True)
    assert main(["HEAD:old.json", "new.json"]) == 1
    assert main(["HEAD:old.json", "old.json"]) == 0
