"""A real S3 server for tests: moto's, in this process, on a port that it keeps when it is stopped and started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer

SECRET = "a-secret-that-must-stay-with-the-worker"
"""The secret key that all of them are used with."""


class Buckets:
    """The server; what is in its buckets survives a stop."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def create(self, bucket: str) -> str:
        """Make a bucket; give the address of a prefix in it."""
        httpx.put(f"{self.url}/{bucket}").raise_for_status()
        return f"s3://{bucket}/some/prefix"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
        }

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        """Answer again, at the same port and with the same content."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    @contextmanager
    def down(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables of this process for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
