"""The Celery application, which carries audits' ids. Torch-free, and light enough for the API to import.

Settings and their reasons:

- ``solo`` pool, one audit at a time. The task itself only waits for the sandbox, which is a process of its own, so a
  prefork child would add nothing but database connections inherited across a fork. In the solo
  pool the task runs in the main thread, where signals arrive, and the worker does not read from the broker while an
  audit runs: a broker that restarts meanwhile cannot disturb it.
- Early acknowledgement and no prefetching. The ledger, not the broker, records who works on what. With late
  acknowledgement and this transport, a job longer than the visibility timeout would be delivered a second time.
- What the broker refuses is an outage like a broken connection: one that fails over refuses all writes for a while.
- No results, no events, no remote control: nothing reads them, and each would store more in the broker.
"""

from typing import Any, Final

from celery import Celery

from common.broker_address import parse_broker_url

QUEUE: Final = "audits"
TASK: Final = "worker.run_audit"


def create_app(broker_url: str, *, transport_options: dict[str, Any] | None = None) -> Celery:
    """Return the Celery application for ``broker_url``.

    Raises:
        ValueError: as ``parse_broker_url``.
    """
    address = parse_broker_url(broker_url)
    app = Celery("backdoor-audit", broker=address.url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_channel_error_retry=True,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_keepalive": True, "global_keyprefix": address.key_prefix}
        | (transport_options or {}),
        broker_use_ssl=False if address.tls is None else dict(address.tls),
        enable_utc=True,
        result_backend=None,
        task_acks_late=False,
        task_create_missing_queues=True,
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_concurrency=1,
        worker_disable_prefetch=True,
        worker_enable_prefetch_count_reduction=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_pool="solo",
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    return app
