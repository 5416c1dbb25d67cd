import shutil
from contextlib import closing

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, make_url

from backdoor_audit.contract.report.audit_report import METHOD_VERSION
from jobs.ledger import Ledger
from tests.service.conftest import SPEC


def samples(served):
    answer = served.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def parts(answer):
    return [item["pointer"] for item in answer.json()["errors"]]


def test_alive_and_ready(served):
    assert served.http.get("/livez").json() == {"status": "alive", "method_version": METHOD_VERSION}
    assert served.http.get("/readyz").json() == {"status": "ready"}


def test_the_part_that_is_out_is_named(serve, tmp_path):
    served = serve(broker_url=f"redis+socket://{tmp_path}/nobody.sock")
    shutil.rmtree(tmp_path / "models")
    answer = served.http.get("/readyz")
    assert answer.status_code == 503
    assert parts(answer) == ["#/broker", "#/models_root"]
    assert int(answer.headers["retry-after"]) > 0
    assert str(tmp_path) not in answer.text
    assert served.http.get("/livez").status_code == 200


def test_not_ready_without_a_ledger(serve, tmp_path):
    assert parts(serve(database_url="postgresql://nobody@127.0.0.1:1/nothing").http.get("/readyz")) == ["#/ledger"]
    assert parts(serve(database_url=f"sqlite:///{tmp_path}/old.sqlite3").http.get("/readyz")) == ["#/ledger"]


def test_metrics_show_the_queue(served):
    served.file()
    served.claim(served.file())
    seen = samples(served)
    assert seen["backdoor_audit_audits", (("status", "queued"),)] == 1
    assert seen["backdoor_audit_audits", (("status", "running"),)] == 1
    assert seen["backdoor_audit_audits", (("status", "failed"),)] == 0
    assert 0 <= seen["backdoor_audit_oldest_queued_seconds", ()] < 60
    assert seen["backdoor_audit_broker_messages", ()] == 2
    assert seen["backdoor_audit_leases_reaped_total", ()] == 0
    assert seen["backdoor_audit_up", (("part", "ledger"),)] == 1
    assert seen["backdoor_audit_up", (("part", "broker"),)] == 1


def test_metrics_count_requests_by_route_and_never_by_path(served):
    audit_id = served.file()
    served.http.get(f"/audits/{audit_id}")
    served.http.get("/made/up")
    served.http.request("BREW", "/audits")
    seen = samples(served)
    name = "backdoor_audit_http_requests_total"
    assert seen[name, (("method", "GET"), ("route", "/audits/{audit_id}"), ("status", "200"))] == 1
    assert seen[name, (("method", "GET"), ("route", "unmatched"), ("status", "404"))] == 1
    assert seen[name, (("method", "other"), ("route", "/audits"), ("status", "405"))] == 1
    seconds = "backdoor_audit_http_request_seconds_count"
    assert seen[seconds, (("method", "POST"), ("route", "/audits"))] == 1
    assert audit_id not in served.http.get("/metrics").text


def test_metrics_work_without_ledger_and_broker(serve, tmp_path):
    served = serve(
        database_url="postgresql://nobody@127.0.0.1:1/nothing", broker_url=f"redis+socket://{tmp_path}/nobody.sock"
    )
    seen = samples(served)
    assert seen["backdoor_audit_up", (("part", "ledger"),)] == 0
    assert seen["backdoor_audit_up", (("part", "broker"),)] == 0
    assert ("backdoor_audit_audits", (("status", "queued"),)) not in seen


def test_two_applications_count_for_themselves(serve):
    one, other = serve(), serve()
    one.http.get("/livez")
    assert ("backdoor_audit_http_requests_total", (("method", "GET"), ("route", "/livez"), ("status", "200"))) not in (
        samples(other)
    )


def test_a_read_only_database_is_an_outage_until_it_is_over(serve, postgres_url):
    with closing(Ledger(postgres_url)) as ledger:
        ledger.migrate()
    served = serve(database_url=postgres_url)
    served.file()
    # As behind an address that leads to a standby for a while: connections made meanwhile stay read-only.
    _execute(postgres_url, "ALTER DATABASE {} SET default_transaction_read_only = on")
    _execute(postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'")
    assert served.http.get("/audits").status_code == 200
    answer = served.http.post("/audits", json=SPEC)
    assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert parts(served.http.get("/readyz")) == ["#/ledger"]
    _execute(postgres_url, "ALTER DATABASE {} RESET default_transaction_read_only")
    served.http.get("/readyz")  # drops what is left of the read-only connections
    assert served.http.get("/readyz").status_code == 200
    served.file()


def _execute(url, statement):
    address = make_url(url)
    engine = create_engine(address.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement.format(address.database))
    engine.dispose()


def test_a_broker_that_takes_no_writes_is_not_ready(served, valkey_server):
    with valkey_server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            assert parts(served.http.get("/readyz")) == ["#/broker"]
            served.file()  # the ledger has it, and a worker sends it later
        finally:
            client.replicaof("NO", "ONE")
    assert served.http.get("/readyz").status_code == 200
