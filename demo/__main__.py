"""`python -m demo`: run example flows on a real Airflow and show their results in the UI."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from demo.airflow_client import AirflowApiError
from demo.airflow_instance import AirflowInstance, Database
from demo.data import BUCKET, TABLE, TICKETS_KEY, create_bucket, create_users, write_tickets
from demo.postgres import find_postgres
from demo.processes import ManagedProcess, ServerError
from demo.servers import LocalServer, aws_connection, aws_server, shop_server
from demo.stages import Stages
from demo.walkthrough import (
    PRODUCTS,
    USERS,
    WalkthroughError,
    check_products,
    check_users,
    print_result,
    run_walkthrough,
)

REPOSITORY = Path(__file__).resolve().parents[1]
EXIT_FAILED = 1
POLL_SECONDS = 0.5


class Stopped(BaseException):
    """A signal asked the demo to end (SIGTERM, SIGHUP)."""


def main() -> int:
    """Run the demo and return its exit status."""
    arguments = _parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise_stopped)
    stages = Stages()
    running: list[ManagedProcess] = []
    try:
        with ExitStack() as stack:
            _DEMOS[arguments.flow](arguments, stages, stack, running)
    except (KeyboardInterrupt, Stopped):
        stages.say("Interrupted; everything is stopped.")
        return EXIT_FAILED
    except (ServerError, WalkthroughError, AirflowApiError) as error:
        stages.say(f"\nThe demo failed: {error}")
        for process in running:
            if process.log.exists():
                stages.say(process.tail(15))
        logs = [str(arguments.home / folder) for folder in ("logs", "airflow/logs")]
        stages.say(f"All logs are in {' and '.join(logs)}; everything is stopped.")
        return EXIT_FAILED
    stages.say("Everything is stopped.")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--home",
        type=Path,
        default=REPOSITORY / ".demo",
        help="the demo's folder; its dags, logs and airflow subfolders are recreated (default: %(default)s)",
    )
    parser.add_argument(
        "--users", type=int, default=5000, help="number of user records (default: %(default)s)"
    )
    parser.add_argument(
        "--flow", choices=list(_DEMOS), default="shop", help="what to run (default: %(default)s)"
    )
    parser.add_argument(
        "--tickets", type=int, default=500, help="number of support tickets (default: %(default)s)"
    )
    parser.add_argument(
        "--database",
        choices=["postgresql", "sqlite"],
        default="postgresql" if find_postgres() else "sqlite",
        help="Airflow's metadata database (default here: %(default)s)",
    )
    return parser.parse_args()


def _raise_stopped(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
    raise Stopped


def _start(
    title: str,
    server: LocalServer,
    stages: Stages,
    stack: ExitStack,
    running: list[ManagedProcess],
) -> LocalServer:
    """Start a server as a stage of its own; the stack stops it."""
    with stages.stage(title):
        stack.enter_context(server)
        running.append(server.process)
        stages.detail(server.url)
    return server


def _run_shop(
    arguments: argparse.Namespace, stages: Stages, stack: ExitStack, running: list[ManagedProcess]
) -> None:
    home: Path = arguments.home.resolve()
    stack.enter_context(_exclusive_folder(home))
    aws = _start("Start a local AWS (moto) with S3 and DynamoDB", aws_server(home), stages, stack, running)
    shop = _start(
        "Start the shop's product and user API", shop_server(home, arguments.users), stages, stack, running
    )
    with stages.stage(
        f"Write {arguments.users} user records to the DynamoDB table {TABLE}; create the bucket {BUCKET}"
    ):
        create_bucket(aws.url)
        create_users(aws.url, arguments.users)
    airflow = _configure_airflow(home, aws.url, arguments.database, REPOSITORY / "dags")
    _start_airflow(airflow, stages, stack, running)
    with stages.stage(f"Run {PRODUCTS.dag_id}: a short list, one mapped task instance per item"):
        products = run_walkthrough(airflow.client, PRODUCTS, shop.url, aws.url)
        check_products(products)
        print_result(stages, products, airflow.base_url)
    with stages.stage(f"Run {USERS.dag_id}: a manifest in S3, read in chunks"):
        users = run_walkthrough(airflow.client, USERS, shop.url, aws.url)
        check_users(airflow.client, users, aws.url, arguments.users)
        print_result(stages, users, airflow.base_url)
    _finish("Both flows", airflow, stages, running)


def _run_tickets(
    arguments: argparse.Namespace, stages: Stages, stack: ExitStack, running: list[ManagedProcess]
) -> None:
    # Inside: the other demo does not wait for the imports of a web server.
    from demo.ticket_walkthrough import FLOW, PRICES, models_connection, run_tickets, ticket_models

    home: Path = arguments.home.resolve()
    stack.enter_context(_exclusive_folder(home))
    aws = _start("Start a local AWS (moto) with S3", aws_server(home), stages, stack, running)
    models = _start(
        "Start two language models, which classify by words", ticket_models(home), stages, stack, running
    )
    with stages.stage(f"Write {arguments.tickets} support tickets to s3://{BUCKET}/{TICKETS_KEY}"):
        create_bucket(aws.url)
        pointer = write_tickets(aws.url, arguments.tickets)
    airflow = _configure_airflow(
        home,
        aws.url,
        arguments.database,
        REPOSITORY / "demo" / "tickets",
        connections={"models": models_connection(models.url)},
        # the flow counts with a function of this package
        env={"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *_PYTHONPATH])},
        chunk_bytes="16384",
        llm_connections=json.dumps({"OPENAI": "models"}),
        llm_prices=json.dumps(PRICES),
    )
    _start_airflow(airflow, stages, stack, running)
    with stages.stage(f"Run {FLOW.dag_id}: a model is asked about every ticket"):
        run_tickets(airflow.client, pointer, arguments.tickets, stages, airflow.base_url)
    _finish("The flow", airflow, stages, running)


_PYTHONPATH = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
_DEMOS = {"shop": _run_shop, "tickets": _run_tickets}


def _start_airflow(
    airflow: AirflowInstance, stages: Stages, stack: ExitStack, running: list[ManagedProcess]
) -> None:
    with stages.stage(f"Start Airflow (airflow standalone on {_NAMES[airflow.database]})"):
        stack.enter_context(airflow)
        running += airflow.processes
        stages.detail(f"{airflow.base_url}   user {airflow.user}, password {airflow.password}")


def _finish(what: str, airflow: AirflowInstance, stages: Stages, running: list[ManagedProcess]) -> None:
    stages.say(f"\n{what} succeeded, {stages.elapsed:.0f} s after the start.")
    stages.say(f"UI: {airflow.base_url}   sign in as {airflow.user}, password {airflow.password}")
    stages.say(
        "The Allma tabs of a Dag and of a run, and Browse > Allma flows, show the flows and their items."
    )
    if sys.stdout.isatty():
        _serve(stages, running)


_NAMES: dict[Database, str] = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}


def _configure_airflow(
    home: Path,
    aws_url: str,
    database: Database,
    flows: Path,
    *,
    connections: Mapping[str, Mapping[str, Any]] | None = None,
    env: Mapping[str, str] | None = None,
    **allma: str,
) -> AirflowInstance:
    """Return an Airflow with the flows of a folder; `allma` has further options of that section."""
    dags = home / "dags"
    shutil.copytree(flows, dags, ignore=shutil.ignore_patterns("__pycache__"))
    for loader in ("allma_flows.py", "allma_problems.py"):
        shutil.copy(REPOSITORY / "dags" / loader, dags)
    return AirflowInstance(
        home / "airflow",
        [dags],
        database=database,
        mode="standalone",
        connections={"aws_default": aws_connection(aws_url), **(connections or {})},
        config={
            # small chunks, so that a few thousand records fill several
            "allma": {"offload_location": f"s3://{BUCKET}/allma", "chunk_bytes": "65536", **allma},
            # the flows do not change: parsing every 2 s would only use up CPU
            "dag_processor": {"min_file_process_interval": "10", "stale_dag_threshold": "20"},
        },
        env=env,
    )


@contextmanager
def _exclusive_folder(home: Path) -> Iterator[None]:
    """Lock the demo's folder and empty it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(
                f"Another demo is running in {home}. Stop it, or choose another folder with --home."
            ) from None
        for entry in home.iterdir():
            if entry.is_dir() and entry.name in {"airflow", "dags", "logs"}:
                shutil.rmtree(entry)
        yield


def _serve(stages: Stages, running: list[ManagedProcess]) -> None:
    stages.say("Serving until you press Ctrl-C.")
    try:
        while True:
            for process in running:
                if not process.running:
                    raise ServerError(f"{process.name} exited unexpectedly.")
            time.sleep(POLL_SECONDS)
    except (KeyboardInterrupt, Stopped):
        stages.say("\nStopping ...")


if __name__ == "__main__":
    sys.exit(main())
