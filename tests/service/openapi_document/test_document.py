import copy
import json
import re

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from service.audits.examples import SPECS
from service.audits.schemas import SpecOut
from service.openapi_document import committed
from service.openapi_document import document as openapi
from service.openapi_document.__main__ import main
from service.openapi_document.references import resolve
from service.openapi_document.report_examples import REPORT
from service.version import API_VERSION


@pytest.fixture(scope="module")
def document():
    return json.loads((committed.FOLDER / committed.DOCUMENT).read_text(encoding="utf-8"))


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_committed_documents_are_the_codes():
    assert main(["--check"]) == 0


@pytest.mark.parametrize("name", [committed.DOCUMENT, committed.REPORT_SCHEMA, committed.ATTESTATION_SCHEMA])
def test_a_difference_is_reported_and_mended(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(committed, "FOLDER", tmp_path / "openapi")
    assert main(["--check"]) == 1
    assert "make openapi" in capsys.readouterr().err
    assert main(["--write"]) == 0
    assert main(["--check"]) == 0
    path = tmp_path / "openapi" / name
    path.write_text(path.read_text().replace("audit", "Audit", 1))
    assert main(["--check"]) == 1
    assert name in capsys.readouterr().err


def test_it_is_printed(capsys):
    assert main([]) == 0
    assert json.loads(capsys.readouterr().out)["openapi"] == "3.1.0"


def test_what_calls_share_is_written_once(document):
    assert (committed.FOLDER / committed.DOCUMENT).stat().st_size < 345_000
    answers = [json.dumps(a) for _, operation in operations(document) for a in operation["responses"].values()]
    whole = [answer for answer in answers if "#/components/responses/" not in answer]
    assert len(whole) == len(set(whole))
    assert len(whole) < len(answers) / 2


def test_it_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()
    broken = copy.deepcopy(document)
    del broken["info"]["title"]
    assert not OpenAPIV31SpecValidator(broken).is_valid()


def test_every_call_is_described_with_its_problems(document):
    names = set()
    for name, operation in operations(document):
        names.add(name)
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        for response in operation["responses"].values():
            assert "Backdoor-Audit-Version" in resolve(document, response)["headers"], name
        default = resolve(document, operation["responses"]["default"])
        assert "application/problem+json" in default["content"], name
        for parameter in operation.get("parameters", []):
            assert resolve(document, parameter)["description"], name
    assert names == {
        "POST /audits",
        "GET /audits",
        "GET /audits/{audit_id}",
        "GET /audits/{audit_id}/report",
        "GET /audits/{audit_id}/features",
        "GET /audits/{audit_id}/features/{feature_id}",
        "GET /audits/{audit_id}/decisions",
        "POST /audits/{audit_id}/decisions",
        "POST /audits/batch",
        "GET /batches/{batch_id}",
        "GET /batches/{batch_id}/report",
        "POST /batches/{batch_id}/cancel",
        "POST /audits/{audit_id}/retry",
        "GET /comparison",
        "GET /audits/{audit_id}/statement",
        "GET /audits/{audit_id}/attestation",
        "GET /audits/{audit_id}/bom",
        "GET /audits/{audit_id}/events",
        "GET /audits/{audit_id}/artifacts",
        "GET /audits/{audit_id}/artifacts/{name}",
        "GET /audits/{audit_id}/artifacts/{name}/{file}",
        "GET /schemas/report",
        "POST /audits/{audit_id}/cancel",
        "DELETE /audits/{audit_id}",
        "GET /models",
        "POST /webhooks",
        "GET /webhooks",
        "GET /webhooks/{webhook_id}",
        "DELETE /webhooks/{webhook_id}",
        "POST /webhooks/{webhook_id}/test",
        "GET /webhooks/{webhook_id}/deliveries",
        "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
        "POST /mlflow/events",
        "POST /libraries",
        "GET /libraries",
        "GET /libraries/{library}",
        "DELETE /libraries/{library}",
        "GET /libraries/{library}/entries",
        "POST /libraries/{library}/entries",
        "DELETE /libraries/{library}/entries/{entry_id}",
        "POST /keys",
        "GET /keys",
        "DELETE /keys/{key_id}",
        "PUT /models/{name}/files/{path}",
        "HEAD /models/{name}/files/{path}",
        "POST /models/{name}/commit",
        "DELETE /models/{name}",
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
    }


def test_the_reports_schema_stands_by_itself(shared):
    schema = shared.http.get("/schemas/report").json()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == json.loads((committed.FOLDER / committed.REPORT_SCHEMA).read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(REPORT)
    validator.validate(REPORT | {"a_field_of_a_later_version": 1})
    for wrong in ({"verdict": "clean"}, {"schema_version": "2.0"}, {"schema_version": "11"}):
        assert not validator.is_valid(REPORT | wrong)
    without = {name: value for name, value in REPORT.items() if name != "limits"}
    assert not validator.is_valid(without)


@pytest.mark.parametrize("name", SPECS)
def test_the_spec_examples_are_specs(name):
    AuditSpec.model_validate_json(json.dumps(SPECS[name]["value"]))


def test_what_goes_out_has_every_field_required_and_no_default(document):
    schemas = document["components"]["schemas"]
    models = (AuditSpec, *openapi.BODIES)
    incoming = {name for model in models for name in (model.__name__, *model.model_json_schema().get("$defs", ()))}
    for name in schemas.keys() - incoming:
        properties = schemas[name].get("properties", {})
        assert set(properties) - set(schemas[name].get("required", [])) <= {"next_page_token"}, name
        assert not [field for field, schema in properties.items() if "default" in schema], name


def test_the_spec_that_goes_out_has_the_fields_of_the_one_that_came_in():
    assert set(SpecOut.model_fields) == set(AuditSpec.model_fields)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_model": "https://example.org"},
        {"base_model": "local:../x"},
        {"trigger": {"triggered": " ", "clean": "x"}},
        {"overrides": {"carriers": 1}},
        {"carriers": {"prompts": [""]}},
        {"architectures": ["diff_sae", "diff_sae"]},
        {"nonsense": 1},
        {"seed": "7"},
    ],
    ids=str,
)
def test_the_spec_schema_refuses_what_the_service_refuses(document, wrong):
    schema = {"$ref": "#/components/schemas/AuditSpec", "components": document["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(SPECS["spec_shortest"]["value"])
    assert not validator.is_valid(SPECS["spec_shortest"]["value"] | wrong)


def test_the_version_is_the_packages(document):
    text = (committed.FOLDER.parent / "pyproject.toml").read_text()
    assert re.search(rf'^version = "{re.escape(API_VERSION)}"$', text, re.MULTILINE)
    assert document["info"]["version"] == API_VERSION


def test_the_document_is_served(shared, document):
    assert shared.http.get("/openapi.json").json() == document
