import json
import threading
import time

import httpx
import pytest

from backdoor_audit.contract.lifecycle import Failure


def parse(text):
    """The events of a stream, by the rules of the HTML standard."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def stream(served, audit_id, last=None):
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    return served.http.get(f"/audits/{audit_id}/events", headers=headers)


def test_the_whole_history_is_streamed_to_the_terminal_state(shared):
    audit_id = shared.file()
    claim = shared.claim(audit_id)
    shared.dependencies.ledger.progress(claim, "extract", 0.5, "two\nlines")
    shared.dependencies.ledger.fail(claim, Failure(code="internal", message="it broke"))
    answer = stream(shared, audit_id)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = parse(answer.text)
    assert [(number, kind, data["status"]) for number, kind, data in found] == [
        (1, "status", "queued"),
        (2, "status", "running"),
        (3, "progress", "running"),
        (4, "status", "failed"),
    ]
    assert found[2][2]["message"] == "two\nlines"
    assert [data["sequence"] for _, _, data in found] == [1, 2, 3, 4]


def test_it_is_replayed_from_the_last_event_and_ends_for_good(shared):
    audit_id = shared.file()
    shared.http.post(f"/audits/{audit_id}/cancel")
    assert [number for number, _, _ in parse(stream(shared, audit_id, 1).text)] == [2]
    for last in (2, 99):
        done = stream(shared, audit_id, last)
        assert (done.status_code, done.content) == (204, b"")


def test_events_come_as_they_happen(shared):
    audit_id = shared.file()
    seen = []
    lines = []

    def act(number):
        seen.append(number)
        if number == 1:
            act.claim = shared.claim(audit_id)
        elif number == 2:
            shared.dependencies.ledger.cancelled(act.claim)

    with (
        httpx.Client(base_url=shared.http.base_url, timeout=20) as http,
        http.stream("GET", f"/audits/{audit_id}/events") as answer,
    ):
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith("id: "):
                act(int(line.removeprefix("id: ")))
    assert seen == [1, 2, 3]
    assert json.loads([line for line in lines if line.startswith("data")][-1][6:])["status"] == "cancelled"


def test_a_deleted_audit_ends_the_stream(shared):
    audit_id = shared.file()
    done = []
    with httpx.Client(base_url=shared.http.base_url, timeout=20) as http:

        def follow():
            with http.stream("GET", f"/audits/{audit_id}/events") as answer:
                for line in answer.iter_lines():
                    if line == "id: 1":
                        started.set()
            done.append(True)

        started = threading.Event()
        thread = threading.Thread(target=follow)
        thread.start()
        assert started.wait(10)
        shared.http.post(f"/audits/{audit_id}/cancel")
        shared.http.delete(f"/audits/{audit_id}")
        thread.join(10)
    assert done == [True]


@pytest.mark.parametrize("last", ["-1", "x", "1.5", str(2**40)])
def test_a_number_that_is_none_is_refused(shared, last):
    answer = stream(shared, shared.file(), last)
    assert (answer.status_code, answer.json()["errors"][0]["in"]) == (422, "header")


def test_an_unknown_audit_has_no_events(shared):
    assert stream(shared, "audit_" + "0" * 26).status_code == 404


def test_an_owner_follows_so_many_audits_at_once_and_no_more(serve):
    served = serve(streams_per_owner=2)
    path = f"/audits/{served.file()}/events"
    url = f"{str(served.http.base_url).rstrip('/')}{path}"
    with httpx.Client(trust_env=False) as http:  # without the check of each answer, which reads it to its end
        with http.stream("GET", url) as first, http.stream("GET", url) as second:
            assert first.status_code == second.status_code == 200
            refused = served.http.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
            assert refused.headers["retry-after"]
            assert served.http.get(f"/ui{path}").status_code == 429
        give_up_at = time.monotonic() + 10
        status = 0
        while status != 200:  # a stream that has ended makes room for another one
            assert time.monotonic() < give_up_at
            with http.stream("GET", url) as again:
                status = again.status_code
