"""The servers that the demo's flows talk to: AWS (moto) and the shop's API, each on a free loopback port."""

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
    """A Python program that serves HTTP on a loopback port of its own."""

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
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            ServerError: it does not; with the end of its log.
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
            with urlopen(self.url + self._ready, timeout=5) as answer:  # noqa: S310 - an address of our own
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """Stop it; may be called again."""
        self.process.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def aws_server(home: Path) -> LocalServer:
    """S3 and DynamoDB (moto), which forget everything when they stop; the log goes to `home`/logs."""
    arguments = ["-H", "127.0.0.1", "-p", "{port}"]
    return LocalServer("aws", "moto.server", arguments, home=home, ready="/moto-api/data.json")


def shop_server(home: Path, users: int) -> LocalServer:
    """The shop's product and user API."""
    arguments = ["--port", "{port}", "--users", str(users)]
    return LocalServer("shop-api", "demo.shop_api", arguments, home=home, ready="/health")


def aws_connection(endpoint: str) -> dict[str, Any]:
    """An Airflow connection to a server that checks no credentials."""
    return {
        "conn_type": "aws",
        "login": "demo",
        "password": "demo",
        "extra": {"endpoint_url": endpoint, "region_name": REGION},
    }


def aws_client(service: str, endpoint: str) -> Any:
    """A boto3 client of such a server."""
    import boto3
    from botocore.config import Config

    session: Any = boto3.Session()  # its stubs want every service named
    return session.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="demo",
        aws_secret_access_key="demo",  # noqa: S106 - moto checks no credentials
        config=Config(max_pool_connections=20),
    )
