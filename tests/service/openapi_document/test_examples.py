"""Every operation, error, parameter and header of the OpenAPI document has an example, and each fits its schema."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.audits.examples import EVENTS
from service.audits.schemas import EventOut
from service.http import problems
from service.openapi_document import committed
from service.openapi_document.references import resolve

SARIF = Path(__file__).parents[1] / "reports" / "sarif-2.1.0.json"
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def document():
    return json.loads((committed.FOLDER / committed.DOCUMENT).read_text(encoding="utf-8"))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def holes(document: dict[str, Any]) -> list[str]:
    """What has no example, or one that does not fit, by the place where it is missing."""
    found: list[str] = []

    def misfit(value: Any, schema: dict[str, Any]) -> bool:
        whole = schema | {"components": document["components"]}
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        return not jsonschema.Draft202012Validator(whole, format_checker=checker).is_valid(value)

    def look(place: str, content: dict[str, Any]) -> None:
        for media_type, body in content.items():
            here = f"{place} {media_type}"
            named = {name: resolve(document, example) for name, example in body.get("examples", {}).items()}
            if not named:
                found.append(f"{here}: none")
            for name, example in named.items():
                if not example.get("summary") or misfit(example["value"], body["schema"]):
                    found.append(f"{here}: {name}")

    for name, operation in operations(document):
        look(f"{name} request", operation.get("requestBody", {}).get("content", {}))
        if operation.get("requestBody", {"content": True}).get("content") == {}:
            found.append(f"{name} request: no content")
        for parameter in (resolve(document, each) for each in operation.get("parameters", ())):
            values = [parameter["example"]] if "example" in parameter else parameter["schema"].get("examples", [])
            if not values or any(misfit(value, parameter["schema"]) for value in values):
                found.append(f"{name} parameter {parameter['name']}")
        for status, reference in operation["responses"].items():
            place, answer = f"{name} {status}", resolve(document, reference)
            look(place, answer.get("content", {}))
            for header, description in answer.get("headers", {}).items():
                described = resolve(document, description)
                if "example" not in described or misfit(described["example"], described["schema"]):
                    found.append(f"{place} header {header}")
            if status == "default" or int(status) >= 400:
                found += [f"{place}: {wrong}" for wrong in misnamed(document, status, answer)]
    return found


def misnamed(document: dict[str, Any], status: str, answer: dict[str, Any]) -> Iterator[str]:
    """What is wrong with an error's examples: of another status, under another name, without a wait."""
    if set(answer["content"]) != {PROBLEM}:
        yield "no problem"
        return
    for name, reference in answer["content"][PROBLEM]["examples"].items():
        value = resolve(document, reference)["value"]
        if value["code"] != name or (status != "default" and str(value["status"]) != status):
            yield f"{name} is not of this status"
    if status in ("429", "503") and "Retry-After" not in answer["headers"]:
        yield "no Retry-After"


def test_nothing_lacks_an_example_and_each_fits_its_schema(document):
    assert holes(document) == []
    assert len(list(operations(document))) > 30


def at(document, *path):
    place = document
    for step in path:
        place = resolve(document, place[step])
    return place


LIST = ("paths", "/audits", "get")
FILE = ("paths", "/audits", "post")


@pytest.mark.parametrize(
    ("where", "key", "value", "said"),
    [
        ((*LIST, "responses", "200", "content", "application/json"), "examples", {}, "GET /audits 200"),
        ((*FILE, "requestBody", "content", "application/json"), "examples", {}, "POST /audits request"),
        ((*LIST, "responses", "503", "content", PROBLEM), "examples", {}, "GET /audits 503"),
        ((*LIST, "responses", "422", "content"), PROBLEM, {"schema": {}, "examples": {}}, "GET /audits 422"),
        ((*LIST, "responses", "503"), "headers", {}, "GET /audits 503: no Retry-After"),
        ((*FILE, "responses", "202", "headers", "Retry-After"), "example", "soon", "POST /audits 202 header Retry-A"),
        ((*LIST, "parameters", 0), "example", "nonsense", "GET /audits parameter status"),
        (("components", "examples", "audit_page", "value"), "audits", [{}], "GET /audits 200"),
        (("components", "examples", "ledger_unavailable", "value"), "status", 500, "GET /audits 503"),
    ],
    ids=lambda value: None if isinstance(value, dict | list | tuple | str | int) else value,
)
def test_a_hole_is_found(document, where, key, value, said):
    broken = copy.deepcopy(document)
    at(broken, *where)[key] = value
    assert [hole for hole in holes(broken) if hole.startswith(said)]


def test_every_example_is_used_and_every_problem_is_the_codes(document):
    text = json.dumps([document["paths"], document["components"]["responses"]])
    titles = {error.problem.code: error.problem.title for error in problems.error_classes()}
    for name, example in document["components"]["examples"].items():
        assert f'"#/components/examples/{name}"' in text, name
        if name in titles:
            assert example["value"]["title"] == titles[name]


def test_examples_in_other_languages_are_of_these_languages(document):
    values = {name: example["value"] for name, example in document["components"]["examples"].items()}
    jsonschema.Draft202012Validator(json.loads(SARIF.read_text(encoding="utf-8"))).validate(values["report_sarif"])
    assert ElementTree.fromstring(values["report_junit"].encode()).tag == "testsuites"
    assert [family.name for family in text_string_to_metric_families(values["metrics"])] == ["backdoor_audit_audits"]
    events = [line.removeprefix("data: ") for line in EVENTS.splitlines() if line.startswith("data: ")]
    assert [EventOut.model_validate_json(event).sequence for event in events] == [7]
