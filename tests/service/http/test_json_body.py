import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from service.audits.examples import SPECS
from service.audits.schemas import SpecOut
from service.errors import InvalidRequest, MalformedJson
from service.http import problems
from service.http.json_body import decode, parse
from service.http.schemas import Problem
from service.http.validation import MAX_ITEMS, pointer

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["set", "prompts", "prompt", "messages", "strings", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = st.sampled_from([*AuditSpec.model_fields, "trigger", "unknown"])


@settings(deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=3))
def test_any_json_is_a_spec_or_a_finding(changes):
    raw = json.dumps(SPECS["spec_shortest"]["value"] | changes).encode()
    refused = None
    try:
        SpecOut.of(parse(AuditSpec, raw))
    except (MalformedJson, InvalidRequest) as error:
        refused = error
    if refused is not None:
        Problem.model_validate(problems.body(refused.problem, detail=refused.detail, errors=refused.errors))
    if isinstance(refused, InvalidRequest):
        assert 0 < len(refused.errors) <= MAX_ITEMS


@settings(deadline=None)
@given(
    st.binary(max_size=40) | st.text(max_size=40).map(str.encode) | VALUES.map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_spec_or_refused(raw):
    with pytest.raises((MalformedJson, InvalidRequest)):
        parse(AuditSpec, raw)


@settings(deadline=None)
@given(VALUES)
def test_what_is_strict_json_is_read_as_everybody_reads_it(value):
    def lists(found):
        if isinstance(found, dict):
            return {key: lists(inner) for key, inner in found.items()}
        return [lists(inner) for inner in found] if isinstance(found, list | tuple) else found

    raw = json.dumps(value)
    assert lists(decode(raw.encode())) == json.loads(raw)


@pytest.mark.parametrize("name", SPECS)
def test_strict_reading_gives_the_spec_that_lax_reading_gives(name):
    raw = json.dumps(SPECS[name]["value"]).encode()
    assert parse(AuditSpec, raw) == AuditSpec.model_validate_json(raw)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ([], "#"),
        (["carriers", "prompts", 12, "prompt"], "#/carriers/prompts/12/prompt"),
        (["labels", "my secret", "x"], "#/labels"),
        (["labels", "a/b~c"], "#/labels"),
        (["x" * 41], "#"),
        (["Idempotency-Key"], "#/Idempotency-Key"),
    ],
)
def test_a_pointer_ends_above_what_could_be_the_clients_data(path, shown):
    assert pointer(path) == shown


@pytest.mark.parametrize(("text", "value"), [("7.0", 7), ("7e2", 700), ("-0.0", 0), ("7.5", 7.5), ("1e300", 1e300)])
def test_a_number_without_a_fraction_is_an_integer(text, value):
    found = decode(f'{{"seed": {text}}}'.encode())["seed"]
    assert (found, type(found)) == (value, type(value))
