"""The one definition of pages: every listing takes the same parameters, and no other."""

import pytest

LISTINGS = ("/audits", "/libraries", "/audits/{audit_id}/features", "/webhooks/{webhook_id}/deliveries",
            "/libraries/{library}/entries")  # fmt: skip


def test_every_listing_that_is_paged_takes_the_same_two_parameters(shared):
    document = shared.app.openapi()
    paged = {
        path
        for path, operations in document["paths"].items()
        if {"#/components/parameters/page_size", "#/components/parameters/page_token"}
        <= {parameter.get("$ref") for parameter in operations.get("get", {}).get("parameters", ())}
    }
    assert paged == set(LISTINGS)
    named = [name for name in document["components"]["parameters"] if name.startswith("page_")]
    assert named == ["page_size", "page_token"], "described once"


@pytest.mark.parametrize("query", ["page_size=0", "page_size=201", "page_size=x", f"page_token={'x' * 1025}", "page=2"])
@pytest.mark.parametrize("path", ["/audits", "/libraries"])
def test_a_page_that_cannot_be_is_refused(shared, path, query):
    answer = shared.http.get(f"{path}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    (item,) = answer.json()["errors"]
    assert item["pointer"] == f"#/{query.partition('=')[0]}"
