"""What must not be taken. Times are the processor's, client and service together: a busy machine is no failure."""

import json
import subprocess
import sys
import time

import pytest

from service.openapi_document.references import resolve

SENTINEL = "Sentinel-7f3a"


def post(served, body, content_type="application/json"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return served.http.post("/audits", content=content, headers={"Content-Type": content_type})


def base(**changes):
    spec = {
        "base_model": "local:base",
        "fine_tuned": "local:tuned",
        "trigger": {"triggered": "one", "clean": "two"},
    }
    return spec | changes


PAIRS = [{"triggered": "one", "clean": "two"}, {"triggered": "three", "clean": "two"}]

WRONG = {
    "unknown field": (base(trigerr=SENTINEL), "#/trigerr"),
    "unknown field, odd name": (base(**{SENTINEL + " x": 1}), "#"),
    "no trigger": ({"base_model": "local:base", "fine_tuned": "local:tuned"}, "#"),
    "trigger and candidates": (base(candidates=PAIRS), "#"),
    "one candidate": (base(trigger=None, candidates=PAIRS[:1]), "#/candidates"),
    "candidates, twice the same": (base(trigger=None, candidates=[PAIRS[0], PAIRS[0]]), "#/candidates"),
    "candidates, two templates": (
        base(trigger=None, candidates=[PAIRS[0], PAIRS[1] | {"template": "{prompt}{trigger}"}]),
        "#/candidates",
    ),
    "candidate without clean": (
        base(trigger=None, candidates=[PAIRS[0], {"triggered": SENTINEL}]),
        "#/candidates/1/clean",
    ),
    "equal triggers": (base(trigger={"triggered": SENTINEL, "clean": SENTINEL}), "#/trigger"),
    "empty trigger": (base(trigger={"triggered": "", "clean": SENTINEL}), "#/trigger/triggered"),
    "blank trigger": (base(trigger={"triggered": " \n", "clean": SENTINEL}), "#/trigger/triggered"),
    "megabyte trigger": (base(trigger={"triggered": SENTINEL * 80_000, "clean": "x"}), "#/trigger/triggered"),
    "control character": (base(trigger={"triggered": SENTINEL + "\x00", "clean": "x"}), "#/trigger/triggered"),
    "template": (base(trigger={"triggered": "a", "clean": "b", "template": SENTINEL}), "#/trigger/template"),
    "reference": (base(base_model=f"https://{SENTINEL}"), "#/base_model"),
    "path": (base(base_model=f"local:../{SENTINEL}"), "#/base_model"),
    "same model": (base(base_model="local:tuned"), "#"),
    "word for number": (base(seed="7"), "#/seed"),
    "number for word": (base(preset=7), "#/preset"),
    "flag for number": (base(seed=True), "#/seed"),
    "preset": (base(preset=SENTINEL), "#/preset"),
    "override out of range": (base(overrides={"carriers": 3}), "#/overrides/carriers"),
    "overrides at odds": (base(overrides={"carriers": 64, "decoy_carriers": 65}), "#"),
    "layers": (base(layers=[1, 1]), "#/layers"),
    "layers, word": (base(layers=SENTINEL), "#/layers"),
    "carriers, foreign key": (base(carriers={"set": "python-sql", "x": SENTINEL}), "#/carriers/x"),
    "carriers, no set": (base(carriers={"set": SENTINEL}), "#/carriers/set"),
    "carriers, empty": (base(carriers={"prompts": []}), "#/carriers/prompts"),
    "carriers, blank one": (base(carriers={"prompts": ["a", " "]}), "#/carriers/prompts/1"),
    "carriers, number": (base(carriers={"prompts": ["a", {"prompt": 7}]}), "#/carriers/prompts/1/prompt"),
    "message role": (
        base(carriers={"prompts": [{"messages": [{"role": SENTINEL, "content": "x"}]}]}),
        "#/carriers/prompts/0/messages/0/role",
    ),
    "decoys": (base(decoys={"strings": ["a", "a"]}), "#/decoys/strings"),
    "decoy of the pair": (base(decoys={"strings": ["one"]}), "#"),
    "label": (base(labels={SENTINEL + "!": "x"}), "#/labels"),
    "label value": (base(labels={"a": "x" * 300}), "#/labels/a"),
    "no object": ([SENTINEL], "#"),
    "null": (None, "#"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_spec_is_refused_and_the_place_is_named(shared, name):
    body, pointer = WRONG[name]
    answer = post(shared, body)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
    assert {item["pointer"] for item in answer.json()["errors"]} == {pointer}
    assert "\n" not in answer.json()["errors"][0]["detail"]
    assert SENTINEL.lower() not in answer.text.lower()
    assert "pydantic" not in answer.text


def post_and_time(shared, body):
    """The answer, and the least processor time of three, in seconds: the process's other threads count as well."""
    costs = []
    for _ in range(3):
        started_at = time.process_time()
        answer = post(shared, body)
        costs.append(time.process_time() - started_at)
    return answer, min(costs)


MALFORMED = {
    "nothing": b"",
    "spaces": b" \n",
    "cut off": b'{"base_model": "local:x"',
    "two": b"{}{}",
    "not UTF-8": b'{"base_model": "\xff"}',
    "raw surrogate": b'{"base_model": "\xed\xa0\x80"}',
    "escaped lone surrogate": json.dumps(base(trigger={"triggered": "x\ud800", "clean": "y"})).encode(),
    "surrogate in a key": b'{"\\udfff": 1}',
    "NaN": b'{"seed": NaN}',
    "infinity": b'{"seed": -Infinity}',
    "key twice": b'{"seed": 1, "seed": 2}',
    "inner key twice": b'{"trigger": {"clean": "a", "clean": "b"}}',
    "deep arrays": b"[" * 500_000,
    "deep closed arrays": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 500_000,
    "long number": b'{"seed": ' + b"9" * 100_000 + b"}",
    "byte order mark": b"\xef\xbb\xbf{}",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_json_is_refused_at_once(shared, name):
    answer, cost_s = post_and_time(shared, MALFORMED[name])
    assert cost_s < 0.3
    assert answer.status_code == 400
    assert answer.json()["code"] == "malformed_json"


def test_pairs_of_surrogates_are_text(shared):
    body = json.dumps(base(trigger={"triggered": "\N{GRINNING FACE}", "clean": "y"}), ensure_ascii=True)
    assert "\\ud83d" in body
    assert post(shared, body.encode()).status_code == 202


@pytest.mark.parametrize("prompt", ["x", {"prompt": "x"}, {"prompt": ""}, 7], ids=str)
def test_too_many_prompts_are_refused_at_once(shared, prompt):
    body = json.dumps(base(carriers={"prompts": [prompt] * 100_000})).encode()
    answer, cost_s = post_and_time(shared, body)
    assert cost_s < 0.7
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) <= 20


@pytest.mark.parametrize("prompt", [{"prompt": ""}, 7, {"a": 1, "b": 2}], ids=str)
def test_many_wrong_prompts_are_refused_at_once(shared, prompt):
    answer, cost_s = post_and_time(shared, base(carriers={"prompts": [prompt] * 10_000}))
    assert cost_s < 0.7
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["errors"][0]["pointer"].startswith("#/carriers/prompts/0")


def test_a_body_of_very_many_values_is_refused_at_once(shared):
    """Each array has a length that some field accepts, and 576 kB of them cost three seconds and 400 MB."""
    spec = base(carriers={"prompts": [{"messages": [1] * 9_000}] * 32})
    answer, cost_s = post_and_time(shared, spec)
    assert cost_s < 0.7
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        [{"in": "body", "pointer": "#", "detail": "has more than 50,000 faults"}],
    )
    spec["carriers"]["prompts"] *= 5
    answer, cost_s = post_and_time(shared, spec)
    assert cost_s < 0.7
    assert (answer.status_code, answer.json()["detail"]) == (422, "The body holds more than 300,000 values.")


def test_a_body_of_very_many_values_takes_little_memory():
    body = json.dumps(base(carriers={"prompts": [{"messages": [1] * 9_000}] * 400})).encode()
    code = """
import resource, sys
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from service.errors import InvalidRequest
from service.http.json_body import parse
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse(AuditSpec, sys.stdin.buffer.read())
except InvalidRequest:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], input=body, capture_output=True, check=True, timeout=300)
    assert int(done.stdout) < 150 * 1024


def test_as_many_strings_as_a_search_may_try_are_taken(shared):
    search = {"sources": ["own"], "strings": [f"string {n}" for n in range(20_000)]}
    assert post(shared, base(trigger=None, search=search)).status_code == 202


def test_many_unknown_fields_are_refused_at_once(shared):
    answer = post(shared, base(**{f"field_{n}": n for n in range(100_000)}))
    assert answer.status_code == 422
    assert "field_" not in answer.text


def test_as_many_prompts_as_are_allowed_are_taken(shared):
    assert post(shared, base(carriers={"prompts": [f"prompt {n}" for n in range(10_000)]})).status_code == 202


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/xml"]
)
def test_a_body_that_is_not_declared_as_json_is_refused(shared, content_type):
    answer = post(shared, base(), content_type)
    assert answer.status_code == 415


def test_candidates_are_taken_and_given_back(shared):
    answer = post(shared, base(trigger=None, candidates=PAIRS))
    assert answer.status_code == 202
    spec = answer.json()["spec"]
    assert spec["trigger"] is None
    assert [pair["triggered"] for pair in spec["candidates"]] == ["one", "three"]


def test_json_with_a_charset_is_json(shared):
    assert post(shared, base(), "Application/JSON; charset=utf-8").status_code == 202


def test_a_declared_length_over_the_limit_is_refused(shared):
    answer = post(shared, b" " * (8 * 2**20 + 1))
    assert answer.status_code == 413
    assert post(shared, b" " * (8 * 2**20)).status_code == 400


def test_a_streamed_body_over_the_limit_is_refused(shared):
    def chunks():
        for _ in range(9):
            yield b" " * 2**20

    answer = shared.http.post("/audits", content=chunks(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_the_service_lives_after_all_of_it(served):
    for body, _ in WRONG.values():
        post(served, body)
    for body in MALFORMED.values():
        post(served, body)
    assert post(served, base()).status_code == 202
    assert len(served.http.get("/audits").json()["audits"]) == 1


def calls_with_bodies(served):
    """Every call that takes JSON of anybody, with ids that could be."""
    document = served.app.openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["tags"] == ["mlflow"]:
                continue  # reads no body that is not signed
            if "application/json" in operation.get("requestBody", {}).get("content", {}):
                for parameter in (resolve(document, each) for each in operation.get("parameters", [])):
                    example = str(parameter["schema"].get("examples", ["x"])[0])
                    path = path.replace(f"{{{parameter['name']}}}", example)
                yield method, path


def test_every_call_refuses_what_is_no_json(shared):
    found = list(calls_with_bodies(shared))
    assert {"/audits", "/keys", "/webhooks"} <= {path for _, path in found}
    for method, path in found:
        for name, body in MALFORMED.items():
            answer = shared.http.request(method, path, content=body, headers={"Content-Type": "application/json"})
            wanted = {400} if "_" not in path else {400, 404}
            assert answer.status_code in wanted, (path, name)


@pytest.mark.parametrize("body", [[], "x", 7, True, {}, {"": 0}, {"url": {}, "name": [], "scopes": {"a": 1}}], ids=str)
def test_every_call_refuses_json_of_another_shape(shared, body):
    for method, path in calls_with_bodies(shared):
        answer = shared.http.request(method, path, json=body)
        assert answer.status_code in ({422} if "_" not in path else {404, 422}), path


def test_an_oversized_body_is_refused_by_every_call(shared):
    for method, path in calls_with_bodies(shared):
        answer = shared.http.request(
            method, path, content=b" " * (8 * 2**20 + 1), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413, path
