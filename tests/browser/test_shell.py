"""The pages' shell: they load, say what is wrong, and ask no other host."""

from __future__ import annotations

import hashlib

from tests.support.ui_server import STATIC


def test_every_library_is_the_one_that_its_list_names():
    lines = (STATIC / "vendor" / "VERSIONS").read_text().splitlines()
    rows = [line.split(" ") for line in lines if line and not line.startswith("#")]
    assert {row[0] for row in rows} == {file.name for file in (STATIC / "vendor").iterdir()} - {"VERSIONS"}
    for name, package, *_, digest in rows:
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest, name
        assert f"{package}.LICENSE" in {row[0] for row in rows}


def test_the_page_of_its_own_loads(ui_server, page_of):
    page, _ = page_of(ui_server.url)
    page.goto(f"{ui_server.url}/allma/ui")
    page.wait_for_selector(".allma[data-page=flows]")


def test_paths_in_airflow_have_colons_and_plus_signs_of_run_ids_as_its_own_links(ui_server, page_of):
    page, _ = page_of(ui_server.url)
    page.goto(f"{ui_server.url}/allma/ui")
    page.wait_for_selector(".allma[data-page=flows]")
    path = page.evaluate(
        """async () => {
            const host = document.querySelector("script[type=module]").src;
            const {pathInAirflow} = await import(new URL("core.js", host));
            return pathInAirflow({dagId: "a b", runId: "manual__2026-11-26T19:45:00+00:00/1"});
        }"""
    )
    assert path == "/dags/a%20b/runs/manual__2026-11-26T19:45:00+00:00%2F1/plugin/allma-run"


def test_an_error_of_which_parts_are_cut_is_a_text(ui_server, page_of):
    page, _ = page_of(ui_server.url)
    page.goto(f"{ui_server.url}/allma/ui")
    page.wait_for_selector(".allma[data-page=flows]")
    cut = {"$cut": '"what \\"was', "$bytes": 9000}
    whole = {"$cut": '{"errorName":"E","errorMessage":"a \\"b\\" c","errorDetails":{"a', "$bytes": 9000}
    errors = [
        {"errorName": "E", "errorMessage": "m", "errorDetails": cut},
        {"errorName": "E", "errorMessage": cut, "errorDetails": {}},
        whole,
        {"$cut": '{"errorName":"E","errorMessage":"a \\', "$bytes": 9000},
        {"$cut": "", "$bytes": 9000},
    ]
    texts = page.evaluate(
        """async (errors) => {
            const host = document.querySelector("script[type=module]").src;
            const {textOfError} = await import(new URL("trace.js", host));
            return errors.map(textOfError);
        }""",
        errors,
    )
    assert texts == [
        "E: m",
        'E: what "was…',
        'E: a "b" c',
        "E: a …",
        "The step failed. Its error is too large to be shown whole.",
    ]
