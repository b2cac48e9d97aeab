"""Secrets to plant, a flow that uses them everywhere, and the search for them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.echo_server import EchoServer

LOGIN = "planted-login"
PASSWORD = 'planted-password &"/+1'
TENANT = 'planted-header <"x">'
VARIABLE = "planted-variable /é&=%2F"
TOKEN = "planted-bearer.token-1"

# Each secret begins with the same letters: what is left of a cut or encoded one is found too.
NEEDLES = ("planted-", base64.b64encode(b"planted-").decode()[:10], b"planted-".hex())


def connections(server: EchoServer) -> dict[str, dict[str, Any]]:
    """Return the connections, in Airflow's JSON form, by id."""
    return {
        "secret_shop": {
            "conn_type": "http",
            "host": server.url,
            "login": LOGIN,
            "password": PASSWORD,
            "extra": {"headers": {"X-Tenant": TENANT}, "key": "planted-extra"},
        },
        "secret_bearer": {
            "conn_type": "http",
            "host": server.url,
            "password": TOKEN,
            "extra": {"auth": "bearer"},
        },
    }


VARIABLES = {"secret_token": VARIABLE}


def call(path: str, connection: str = "secret_shop", to: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a step that sends secrets in the URL and in headers."""
    return {
        "stepType": "API_CALL",
        "apiHttpMethod": "GET",
        "connection": connection,
        "apiUrlTemplate": {"template": path + "?t={{var.secret_token}}&k={{conn.secret_shop.extra.key}}"},
        "apiHeadersTemplate": {
            "X-Made": "{{base64 conn.secret_shop.password}}:{{currentItem.id}}",
            "X-Both": "{{conn.secret_shop.login}} {{conn.secret_bearer.password}}",
        },
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def planted_flow(flow_id: str) -> dict[str, Any]:
    """Return a flow whose steps succeed, fail and are retried on the main path, in branches and in chunks."""
    again = {"retries": {"count": 1, "intervalSeconds": 1}}

    def fan(items: str, start: str, to: str) -> dict[str, Any]:
        return {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": f"$.initialContextData.{items}",
            "parallelBranches": [{"branchId": "b", "stepInstanceId": start}],
            "aggregationConfig": {"strategy": "COLLECT_ARRAY", "failOnBranchError": False},
            "defaultNextStepInstanceId": to,
        }

    return {
        "id": flow_id,
        "startStepInstanceId": "good",
        "airflow": {"maxInMemoryItems": 3},
        "steps": {
            "good": call("/ok/good", "secret_bearer", to="moved"),
            "moved": call("/away/x", to="retried"),
            "retried": call("/stubborn/503/main", to="transient", onError=again),
            "transient": call("/flaky/503/main", to="tolerated"),
            "tolerated": call("/fail/404/main", to="kept", onError={"continueOnFailure": True}),
            "kept": {
                "stepType": "DATA_TRANSFORMATION",
                "moduleIdentifier": "system/compose-object-from-input",
                "inputMappings": {"error": "$.steps_output.tolerated", "good": "$.steps_output.good"},
                "defaultNextStepInstanceId": "few",
            },
            "few": fan("few", "one", "many"),
            "one": call("/{{currentItem.way}}/{{currentItem.id}}"),
            "many": fan("many", "each", "last"),
            "each": call("/{{currentItem.way}}/{{currentItem.id}}", "secret_bearer", onError=again),
            "last": call("/fail/403/main"),
        },
    }


PAYLOAD = {
    "few": [{"id": "f1", "way": "ok"}, {"id": "f2", "way": "fail/404"}, {"id": "f3", "way": "flaky/503"}],
    "many": [
        {"id": "m1", "way": "ok"},
        {"id": "m2", "way": "fail/404"},
        {"id": "m3", "way": "flaky/503"},
        {"id": "m4", "way": "stubborn/503"},
        {"id": "m5", "way": "ok"},
    ],
}
REQUESTS = {"/ok/good": 1, "/away/x": 1, "/stubborn/503/main": 6, "/flaky/503/main": 2, "/fail/404/main": 1}
REQUESTS |= {"/ok/f1": 1, "/fail/404/f2": 1, "/flaky/503/f3": 2, "/fail/403/main": 1, "/ok/away": 1}
REQUESTS |= {"/ok/m1": 1, "/fail/404/m2": 1, "/flaky/503/m3": 2, "/stubborn/503/m4": 6, "/ok/m5": 1}
"""The paths that a run asks for, and how often."""


def environment(server: EchoServer) -> dict[str, str]:
    """Return the variables that give the secrets to a process."""
    return {
        **{
            f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in connections(server).items()
        },
        **{f"AIRFLOW_VAR_{name.upper()}": value for name, value in VARIABLES.items()},
    }


def hits(texts: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[str]:
    """Return where planted secrets are found, with what is around them."""
    found = []
    for place, text in texts.items() if isinstance(texts, Mapping) else texts:
        for needle in NEEDLES:
            at = text.find(needle)
            if at >= 0:
                found.append(f"{place}: ...{text[max(0, at - 80) : at + 60]!r}")
    return found


def files_below(folder: Path, *, without: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield each file with its content as text, unpacked if it is gzipped."""
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.is_symlink() or set(file.relative_to(folder).parts) & set(without):
            continue
        try:
            data = file.read_bytes()
        except OSError:
            continue  # it was removed meanwhile
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        yield str(file.relative_to(folder)), data.decode(errors="replace")
