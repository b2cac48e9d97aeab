"""Who may read what with the FAB auth manager: a table of roles and routes.

FAB is no dependency of this package, so this runs in an environment of its own::

    python -m venv /tmp/fab
    /tmp/fab/bin/pip install "apache-airflow==3.3.*" msgspec aiohttp httpx \
        apache-airflow-providers-fab apache-airflow-providers-amazon apache-airflow-providers-smtp
    PYTHONPATH=. /tmp/fab/bin/python -m tests.airflow.full_size.fab_rights

It prints the table, and fails if it is not as expected.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FLOWS = ("mine", "other")
CUSTOM = (
    ("can_read", "DAG:mine"),
    ("can_read", "DAG Runs"),
    ("can_read", "Task Instances"),
    ("can_read", "XComs"),
)
ROUTES = {
    "flows": "/flows",
    "flow": "/dags/mine/flow",
    "run": "/dags/mine/runs/{mine}",
    "items": "/dags/mine/runs/{mine}/forks/f/items",
    "other flow": "/dags/other/flow",
    "other run": "/dags/other/runs/{other}",
}
EXPECTED = {
    "Admin": [200, 200, 200, 200, 200, 200],
    "Op": [200, 200, 200, 200, 200, 200],
    "User": [200, 200, 200, 200, 200, 200],
    "Viewer": [200, 200, 200, 200, 200, 200],
    "one flow": [200, 200, 200, 200, 403, 403],
    "Public": [200, 403, 403, 403, 403, 403],
    "nobody": [401, 401, 401, 401, 401, 401],
}
LISTED = {"Admin": {"mine", "other"}, "Viewer": {"mine", "other"}, "one flow": {"mine"}, "Public": set()}


def configure(home: Path) -> None:
    """Set up an Airflow with FAB in a folder."""
    (home / "dags").mkdir()
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
    }
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


def run_flows() -> dict[str, str]:
    """Run each flow once in this process, and return the ids of the runs."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    from airflow_allma.dag_factory import build_dag
    from airflow_allma.flow import Flow

    DagBundlesManager().sync_bundles_to_db()
    ran = {}
    for name in FLOWS:
        step = {"stepType": "NO_OP"}
        fork = {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.initialContextData.items",
            "parallelBranches": [{"branchId": "b", "stepInstanceId": "s"}],
            "aggregationConfig": {"strategy": "COLLECT_ARRAY"},
        }
        flow = {"id": name, "startStepInstanceId": "f", "steps": {"f": fork, "s": step}}
        dag = build_dag(Flow.model_validate(flow))
        bag = DagBag(dag_folder=os.environ["AIRFLOW__CORE__DAGS_FOLDER"], collect_dags=False)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        ran[name] = dag.test(run_conf={"items": [1]}).run_id
    return ran


def users(manager: Any) -> dict[str, dict[str, str]]:
    """Add a user for each role, and return the headers of each."""
    from airflow.providers.fab.www.app import create_app as create_flask_app

    flask = create_flask_app(enable_plugins=False)
    headers: dict[str, dict[str, str]] = {"nobody": {}}
    with flask.app_context():
        security = flask.appbuilder.sm
        security.sync_roles()
        role = security.add_role("one flow")
        for action, resource in CUSTOM:
            security.add_permission_to_role(role, security.create_permission(action, resource))
        for name in EXPECTED.keys() - headers.keys():
            mail = f"{name.replace(' ', '-')}@example.com"
            user = security.add_user(
                mail, "A", name, mail, security.find_role(name), password=secrets.token_hex(8)
            )
            headers[name] = {"Authorization": f"Bearer {manager.generate_jwt(user)}"}
    return headers


def say(*parts: str) -> None:
    """Write a line of the table."""
    sys.stdout.write(" ".join(parts) + "\n")


def main() -> int:
    """Print the table and return 1 if it is not as expected."""
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder))
        ran = run_flows()
        from airflow.api_fastapi.app import create_auth_manager
        from fastapi.testclient import TestClient

        from airflow_allma.server.web_app import create_app

        manager = create_auth_manager()
        manager.get_fastapi_app()
        headers = users(manager)
        client = TestClient(create_app())
        found, listed = {}, {}
        for name in EXPECTED:
            answers = [
                client.get("/api" + path.format(**ran), headers=headers[name]) for path in ROUTES.values()
            ]
            found[name] = [answer.status_code for answer in answers]
            if answers[0].status_code == 200:
                listed[name] = {flow["dagId"] for flow in answers[0].json()["flows"]}
    say(f"{'role':<10}", *(f"{name:<11}" for name in ROUTES), "flows listed")
    for name, codes in found.items():
        say(f"{name:<10}", *(f"{code:<11}" for code in codes), ", ".join(sorted(listed.get(name, ()))))
    is_right = found == EXPECTED and all(listed[name] == flows for name, flows in LISTED.items())
    say("as expected" if is_right else f"expected: {EXPECTED}, {LISTED}")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
