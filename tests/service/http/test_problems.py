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
from common.problem_type import INTERNAL
from service.http import problems
from service.http.schemas import Problem


def ours():
    return [one for one in problems.error_classes() if not one.__module__.startswith("tests")]


def test_the_trees_hold_every_error_of_the_rooms():
    rooms = (jobs.errors, models_store.errors, storage.errors, worker.errors, service.errors)
    classes = {
        value
        for module in rooms
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module.__name__
    }
    assert classes <= set(ours())
    assert len(classes) > 60


def test_every_error_names_its_problem_and_every_problem_has_a_status():
    unmapped = [one.__qualname__ for one in ours() if "problem" not in vars(one)]
    assert not unmapped, "write down what a client is told of these errors: give each class its `problem`"
    codes = {one.problem.code for one in ours()}
    assert codes == set(problems.STATUSES), "one status for each code, in service.http.problems.STATUSES"


def test_a_problem_is_told_apart_by_its_code():
    found = {one.problem for one in ours()}
    assert len({one.code for one in found}) == len(found), "two problems have one code"
    for one in found:
        problem = Problem.model_validate(problems.body(one))
        assert problem.type == "urn:problem-type:backdoor-audit:" + one.code.replace("_", "-")
        assert 400 <= problem.status < 600
        assert (one.code in problems.RETRY_AFTER_S) == (problem.status in (429, 503))


def test_an_error_that_no_room_knows_is_internal():
    assert problems.problem_of(KeyError("x")) is INTERNAL


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
