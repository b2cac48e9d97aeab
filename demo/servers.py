"""The servers that the demo's flows call: AWS (moto) and the shop's API, each on a free loopback port."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from demo.processes import ManagedProcess, clean_environment, free_port, wait_until

START_SECONDS = 60.0
REGION = "eu-central-1"


class LocalServer:
    """A Python module that serves HTTP on its own loopback port."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], *, home: Path, ready: str) -> None:
        self.port = free_port()
        self.process = ManagedProcess(
            name,
            [sys.executable, "-m", module, *(part.format(port=self.port) for part in arguments)],
            log=home / "logs" / f"{name}.log",
            env=clean_environment({"PYTHONUNBUFFERED": "1"}),
            grace=2.0,
        )
        self._ready = ready

    @property
    def url(self) -> str:
        """The server's URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            ServerError: the server does not answer; the message has the end of its log.
        """
        self.process.start()
        try:
            wait_until(self._answers, what=self.process.name, processes=[self.process], timeout=START_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def _answers(self) -> bool:
        try:
            with urlopen(self.url + self._ready, timeout=5) as response:  # noqa: S310 - our own server
                return bool(response.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the server; calling it again does nothing."""
        self.process.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def aws_server(home: Path) -> LocalServer:
    """Return a server of S3 and DynamoDB (moto) that keeps its data in memory and logs to `home`/logs."""
    arguments = ["-H", "127.0.0.1", "-p", "{port}"]
    return LocalServer("aws", "moto.server", arguments, home=home, ready="/moto-api/data.json")


def shop_server(home: Path, users: int) -> LocalServer:
    """Return the server of the shop's product and user API."""
    arguments = ["--port", "{port}", "--users", str(users)]
    return LocalServer("shop-api", "demo.shop_api", arguments, home=home, ready="/health")


def aws_connection(endpoint: str) -> dict[str, Any]:
    """Return an Airflow connection to a server that does not check credentials."""
    return {
        "conn_type": "aws",
        "login": "demo",
        "password": "demo",
        "extra": {"endpoint_url": endpoint, "region_name": REGION},
    }


def aws_client(service: str, endpoint: str) -> Any:
    """Return a boto3 client of a server that does not check credentials."""
    import boto3
    from botocore.config import Config

    session: Any = boto3.Session()  # its type stubs need a literal service name
    return session.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="demo",
        aws_secret_access_key="demo",  # noqa: S106 - moto does not check credentials
        config=Config(max_pool_connections=20),
    )
