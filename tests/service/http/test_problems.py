import inspect
import json

import httpx
import pytest
from starlette.responses import StreamingResponse

import jobs.errors
import models_store.errors
import service.errors
import storage.errors
import worker.errors
from backdoor_audit.contract.spec import TERMINAL
from service.http import problems
from service.http.schemas import Problem


def test_every_error_of_the_rooms_is_mapped():
    classes = {
        value
        for module in (jobs.errors, models_store.errors, storage.errors, worker.errors, service.errors)
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module.__name__
    }
    pending = list(problems.ROOTS)
    while pending:
        root = pending.pop()
        if not root.__module__.startswith("tests"):
            classes.add(root)
        pending += root.__subclasses__()
    missing = sorted(f"{one.__module__}.{one.__name__}" for one in classes - problems.KINDS.keys())
    assert not missing, f"service.http.problems.KINDS says nothing about {missing}"
    assert len(classes) > 20


def test_kinds_are_told_apart_by_their_code():
    kinds = {kind.code: kind for kind in vars(problems).values() if isinstance(kind, problems.Kind)}
    assert set(problems.KINDS.values()) <= set(kinds.values())
    assert len({kind.type for kind in kinds.values()}) == len(kinds)
    for kind in kinds.values():
        Problem.model_validate(problems.body(kind))
        assert 400 <= kind.status < 600
        assert (kind.retry_after_s is not None) == (kind.status in (429, 503))


def test_an_unmapped_class_is_what_its_nearest_ancestor_is():
    class Missing(jobs.errors.LedgerUnavailable):
        pass

    assert problems.kind_of(Missing()) is problems.LEDGER_OUT
    assert problems.kind_of(KeyError("x")) is problems.INTERNAL


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_report_that_never_comes_is_told_apart(status):
    assert problems.kind_of(jobs.errors.ReportNotReady("audit_x", status)) is problems.REPORT_NEVER
    assert problems.kind_of(jobs.errors.ReportNotReady("audit_x", "running")) is problems.REPORT_NOT_READY


@pytest.mark.parametrize("path", ["/ui", "/nothing", "/audits/", "/audits//report", "/%2e%2e/etc/passwd", "/redoc"])
def test_an_unknown_path_is_a_problem(shared, path):
    answer = shared.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/audits", "GET, POST"),
        ("PATCH", "/audits/audit_" + "0" * 26, "DELETE, GET"),
        ("GET", "/audits/audit_" + "0" * 26 + "/cancel", "POST"),
        ("POST", "/livez", "GET"),
        ("OPTIONS", "/audits", "GET, POST"),
        ("BREW", "/audits", "GET, POST"),
        ("POST", "/docs", "GET"),
    ],
)
def test_a_wrong_method_is_a_problem(shared, method, path, allow):
    answer = shared.http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow


def test_an_unexpected_error_shows_nothing_of_itself(serve):
    def boom():
        raise RuntimeError("the password is hunter2")

    served = serve(change=lambda app: app.add_api_route("/boom", boom))
    answer = served.http.get("/boom")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["instance"].startswith("urn:uuid:")
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert served.http.get("/livez").status_code == 200


def test_the_log_says_where_and_never_repeats_a_message(capsys):
    secret = "-".join(["a", "prompt"])
    try:
        try:
            raise KeyError(secret)
        except KeyError as cause:
            raise RuntimeError(secret) from cause
    except RuntimeError as error:
        answer = problems.internal(error)
    logged = capsys.readouterr().out
    for part in ("test_problems.py", "RuntimeError", "KeyError", json.loads(answer.body)["instance"]):
        assert part in logged
    assert secret not in logged


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(serve):
    def broken():
        yield b"half"
        raise RuntimeError("the disk is gone")

    served = serve(change=lambda app: app.add_api_route("/broken", lambda: StreamingResponse(broken())))
    with pytest.raises(httpx.RemoteProtocolError):
        served.http.get("/broken")
    assert served.http.get("/livez").status_code == 200


def test_a_database_of_another_version_is_a_problem(serve, tmp_path):
    served = serve(database_url=f"sqlite:///{tmp_path}/new.sqlite3")
    answer = served.http.get("/audits")
    assert (answer.status_code, answer.json()["code"]) == (503, "schema_mismatch")
