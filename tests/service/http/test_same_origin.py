"""A service without keys and the web pages of the browser beside it."""

import pytest
from starlette.datastructures import Headers

from service.http.same_origin import refusal


def port(served):
    return served.http.base_url.port


@pytest.mark.parametrize("host", ["localhost", "localhost:{port}", "127.0.0.1:{port}", "127.1.2.3", "[::1]:{port}"])
def test_its_own_names_are_answered(shared, host):
    answer = shared.http.get("/models", headers={"Host": host.format(port=port(shared))})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.nip.io:{port}",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/models", "/docs", "/metrics", "/nothing"])
def test_a_name_that_points_here_from_elsewhere_is_not(shared, host, path):
    answer = shared.http.get(path, headers={"Host": host.format(port=port(shared))})
    assert (answer.status_code, answer.json()["code"]) == (421, "misdirected")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:{port}"},
    ],
    ids=str,
)
def test_another_sites_page_changes_nothing(served, headers):
    audit_id = served.file()
    sent = {name: value.format(port=port(served)) for name, value in headers.items()}
    for method, path in (("POST", f"/audits/{audit_id}/cancel"), ("DELETE", f"/audits/{audit_id}"), ("POST", "/keys")):
        answer = served.http.request(method, path, headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
    assert served.http.get(f"/audits/{audit_id}", headers=sent).json()["status"] == "queued"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1:{port}"},
    ],
    ids=str,
)
def test_its_own_pages_and_commands_may(served, headers):
    sent = {name: value.format(port=port(served)) for name, value in headers.items()}
    assert served.http.post(f"/audits/{served.file()}/cancel", headers=sent).status_code == 202


def test_a_service_with_keys_has_names_of_its_own(serve):
    served = serve(require_keys=True)
    _, token = served.dependencies.ledger.keys.create(owner="ann", name="test", scopes=["admin"])
    headers = {"Authorization": f"Bearer {token}", "Host": "audits.example", "Origin": "https://ci.example"}
    assert served.http.get("/models", headers=headers).status_code == 200
    assert served.http.post("/audits/audit_" + "0" * 26 + "/cancel", headers=headers).status_code == 404


def test_a_request_without_a_host_or_with_two_is_not_answered():
    assert refusal("GET", Headers(raw=[])).code == "misdirected"
    assert refusal("GET", Headers(raw=[(b"host", b"localhost"), (b"host", b"evil.example")])).code == "misdirected"
