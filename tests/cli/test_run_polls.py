"""`airflow-allma run` with a flow that polls: the process waits for the shortest interval, five seconds."""

from __future__ import annotations

from tests.airflow.polls import poll
from tests.airflow.shop import open_shop
from tests.support.cli import flow_document, run_cli, write_file
from tests.support.engine import fork, then


def test_polls_wait_in_the_process_all_at_the_same_time(tmp_path):
    steps = {
        "a": poll("{{initialContextData.url}}/main", "f"),
        "f": {**fork("w"), **then("z")},
        "w": poll("{{initialContextData.url}}/{{currentItem}}", outputMappings={"$.output": "$.data.path"}),
        "z": {"stepType": "NO_OP"},
    }
    with open_shop() as shop:
        shop.answer = lambda path, call: (200, {"done": path == "/main" or call == 2, "path": path})
        flow = write_file(tmp_path, "polls.json", flow_document(steps))
        payload = f'{{"url": "{shop.url}", "items": ["x", "y", "z"]}}'
        ran = run_cli("run", flow, "--payload", payload)
    assert ran.code == 0, ran.err
    outputs = ran.json["context"]["steps_output"]
    assert outputs["a"]["data"] == {"done": True, "path": "/main"}
    assert outputs["f"]["aggregatedData"] == ["/x", "/y", "/z"]
    assert shop.calls == {"/main": 1, "/x": 2, "/y": 2, "/z": 2}
