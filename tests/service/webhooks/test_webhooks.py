"""Webhooks as clients manage them; what is sent is in ``test_row_16_webhooks``."""

import pytest

from service.webhooks.examples import DELIVERY_ID

URL = "https://ci.invalid/hook"


def register(served, url=URL, **options):
    return served.http.post("/webhooks", json={"url": url, **options})


def test_its_secret_is_shown_once(served):
    answer = register(served)
    assert answer.status_code == 201
    body = answer.json()
    assert body.pop("secret").startswith("whsec_")
    assert body["every_audit"] is True
    assert answer.headers["location"] == f"/webhooks/{body['id']}"
    assert answer.headers["cache-control"] == "no-store"
    assert served.http.get(answer.headers["location"]).json() == body
    listed = served.http.get("/webhooks")
    assert listed.json() == {"webhooks": [body]}
    assert "whsec_" not in listed.text
    assert served.http.delete(f"/webhooks/{body['id']}").status_code == 204
    assert served.http.get(f"/webhooks/{body['id']}").status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://ci.invalid/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://a:b@ci.invalid/",
        "https://ci.invalid/#x",
        "https://ci.invalid:x/",
        "https://ci.invalid/\n",
        "https://ci.invalid/" + "x" * 2000,
        "file:///etc/passwd",
        7,
        None,
    ],
)
def test_an_address_that_is_not_taken(shared, url):
    answer = register(shared, url)
    assert answer.status_code == 422
    assert {item["pointer"] for item in answer.json()["errors"]} == {"#/url"}


def test_the_same_address_twice(served):
    register(served)
    answer = register(served)
    assert (answer.status_code, answer.json()["code"]) == (409, "webhook_taken")


def test_there_may_not_be_any_number(served):
    for number in range(20):
        assert register(served, f"{URL}/{number}").status_code == 201
    answer = register(served)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_webhooks")


@pytest.mark.parametrize("webhook_id", ["wh_" + "0" * 26, "x"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("GET", "/deliveries"),
        ("POST", f"/deliveries/{DELIVERY_ID}/replay"),
    ],
)
def test_one_that_is_not_there(shared, webhook_id, method, path):
    answer = shared.http.request(method, f"/webhooks/{webhook_id}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found")


def test_a_delivery_that_is_not_there(served):
    webhook_id = register(served).json()["id"]
    for delivery_id in (DELIVERY_ID, "x"):
        answer = served.http.post(f"/webhooks/{webhook_id}/deliveries/{delivery_id}/replay")
        assert (answer.status_code, answer.json()["code"]) == (404, "delivery_not_found")


def test_pages_of_deliveries(served):
    webhook_id = register(served).json()["id"]
    ids = [served.http.post(f"/webhooks/{webhook_id}/test").json()["id"] for _ in range(5)]
    seen, token = [], None
    while True:
        params = {"page_size": 2} | ({"page_token": token} if token else {})
        page = served.http.get(f"/webhooks/{webhook_id}/deliveries", params=params).json()
        seen += [one["id"] for one in page["deliveries"]]
        token = page.get("next_page_token")
        if token is None:
            break
    assert seen == sorted(ids, reverse=True)
    for wrong in ("x", "!", token or "ZGVsaXZlcmllczp4"):
        answer = served.http.get(f"/webhooks/{webhook_id}/deliveries", params={"page_token": wrong})
        assert answer.status_code == 422


def test_an_audit_names_one(served, spec):
    answer = served.http.post("/audits", json=spec | {"webhook": {"url": URL}})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/webhook/url")
    register(served, every_audit=False)
    answer = served.http.post("/audits", json=spec | {"webhook": {"url": URL}})
    assert answer.status_code == 202
    assert answer.json()["spec"]["webhook"] == {"url": URL}
