"""The documentation is true: its flows run, its links work, and its tables are complete."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import airflow
import pytest
import yaml
from airflow.providers.celery.get_provider_info import get_provider_info as celery_provider
from typer.testing import CliRunner

from airflow_allma.cli import app
from airflow_allma.common.environment_secrets import EnvironmentSecrets
from airflow_allma.engine import CompiledFlows, EngineSettings, RunInfo, Services, compile_flow, run_segment
from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.llm.model_services import ModelServices
from airflow_allma.engine.modules import MODULES
from airflow_allma.engine.secrets import Secrets
from airflow_allma.engine.steps import HANDLERS
from airflow_allma.expressions import compile_path
from airflow_allma.flow import AirflowOptions, Flow, StepType
from airflow_allma.loading import load_flow_file
from airflow_allma.provider import get_provider_info
from airflow_allma.storage import LocalStore
from tests.support.aws_setup import set_up_aws
from tests.support.own_modules import GROUP, register

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
OPTIONS = get_provider_info()["config"]["allma"]["options"]

_BLOCK = re.compile(
    r"(?:^<!-- run: (?P<run>[^\n]*) -->\n)?^```json\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
# In Markdown, and in HTML where the dark theme has a picture of its own.
_IMAGE = re.compile(r'!\[[^\]]+\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"')
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A flow on a page; ``run``, if it is not None, has the payload and the expected results."""

    page: str
    name: str
    text: str
    run: dict[str, Any] | None


@pytest.fixture(autouse=True)
def template_modules(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the template package of modules of one's own look installed."""
    template = ROOT / "docs" / "own-module-template"
    project = tomllib.loads((template / "pyproject.toml").read_text())["project"]
    site = tmp_path_factory.getbasetemp() / "template-site"
    register(site, project["name"], project["entry-points"][GROUP])
    for folder in (template, site):
        monkeypatch.syspath_prepend(str(folder))


def examples() -> Iterator[Example]:
    for page in PAGES:
        for found in _BLOCK.finditer(page.read_text()):
            content = json.loads(found["text"])
            if isinstance(content, dict) and "steps" in content:
                run = json.loads(found["run"]) if found["run"] else None
                yield Example(page.name, f"{page.name}:{content.get('id')}", found["text"], run)


EXAMPLES = list(examples())
RUNNABLE = [example for example in EXAMPLES if example.run is not None]


def named(example: Example) -> str:
    return example.name


@pytest.mark.parametrize("example", EXAMPLES, ids=named)
def test_an_example_is_a_flow_without_problems(example, tmp_path):
    file = tmp_path / "flow.json"
    file.write_text(example.text)
    loaded = load_flow_file(file)
    assert [str(problem) for problem in loaded.problems] == []
    assert len(loaded.flows) == 1


def flows_of(page: str) -> CompiledFlows:
    """Return the flows of a page, which can run each other."""
    documents = [json.loads(example.text) for example in EXAMPLES if example.page == page]
    flows = {document["id"]: document for document in documents}
    return CompiledFlows(lambda flow_id, _: Flow.model_validate(flows[flow_id]))


async def no_sleep(_seconds: float) -> None:
    return


@pytest.mark.parametrize("example", RUNNABLE, ids=named)
def test_an_example_returns_what_the_page_says(example, tmp_path, moto_endpoint, fake_lambda):
    flow_file = tmp_path / "flow.json"
    flow_file.write_text(example.text)
    for name, content in example.run.get("objects", {}).items():
        target = tmp_path / "store" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        is_text = isinstance(content, str)
        target.write_bytes(content.encode() if is_text else base64.b64decode(content["base64"]))
    (tmp_path / "store" / "data").mkdir(parents=True, exist_ok=True)
    environment = example.run.get("environment", {})
    http = FakeHttpClient()
    for answer in example.run.get("http", []):
        http.route(answer["method"], answer["url"], json_response(answer["json"]))
    (source,) = load_flow_file(flow_file).flows
    program = compile_flow(source.flow)
    info = RunInfo.now(source.flow.id, source.flow.version, "run-1")
    aws = set_up_aws(example.run.get("aws", {}), moto_endpoint, fake_lambda)
    for sender in example.run.get("ses", []):
        aws.client("ses").verify_email_identity(EmailAddress=sender)
    services = Services(
        store=LocalStore(tmp_path / "store"),
        aws=aws,
        http=http,
        secrets=Secrets(EnvironmentSecrets(environment)),
        models=ModelServices(llm_connections=environment.get("AIRFLOW__ALLMA__LLM_CONNECTIONS", "")),
        settings=EngineSettings(),
        flows=flows_of(example.page),
        sleep=no_sleep,
    )

    async def run() -> Any:
        return await run_segment(
            program, program.start_state(example.run["payload"], "run-1"), info, services
        )

    ended = asyncio.run(run())
    assert str(ended.status) == example.run.get("status", "COMPLETED"), ended.error
    seen = {**ended.state.context, "path": ended.state.path, "error": ended.error}
    results = {path: compile_path(path).find(seen) for path in example.run["expect"]}
    assert results == example.run["expect"]
    if sent := example.run.get("sent"):
        assert [request.headers for request in http.requests] == sent


def test_most_examples_run():
    assert len(RUNNABLE) >= 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_works(page):
    text = _FENCED.sub("", page.read_text())
    broken = []
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Heading anchors, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_image_exists_and_is_used():
    images = ROOT / "docs" / "images"
    shown = {
        (page.parent / path).resolve()
        for page in PAGES
        for markdown, html in _IMAGE.findall(page.read_text())
        for path in (markdown or html,)
    }
    assert shown == set(images.iterdir())


def airflow_options() -> dict[str, set[str]]:
    text = Path(airflow.__file__).with_name("config_templates").joinpath("config.yml").read_text()
    sections = yaml.safe_load(text) | celery_provider()["config"]
    known = {section: set(content["options"]) for section, content in sections.items()}
    return known | {"allma": set(OPTIONS)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_named_setting_exists(page):
    text = page.read_text()
    known = airflow_options()
    named_settings = re.findall(r"\[([a-z_]+)\] ([a-z_]+)", _FENCED.sub("", text))
    variables = [
        (section.lower(), option.lower())
        for section, option in re.findall(r"AIRFLOW__([A-Z]+(?:_[A-Z]+)*)__([A-Z0-9_]+)", text)
    ]
    files = "".join(re.findall(r"^```ini\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    parser = RawConfigParser(strict=False)
    parser.read_string(files)
    in_files = [(section, option) for section in parser.sections() for option in parser[section]]
    unknown = [
        pair for pair in (*named_settings, *variables, *in_files) if pair[1] not in known.get(pair[0], set())
    ]
    assert unknown == []


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, _, below = (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")
    assert below, f"{page} has no {heading}"
    lines = iter(below.splitlines())
    for line in lines:
        if line.startswith("| ---"):
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
    return rows


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_step_types_says_which_run():
    documented = {codes(row[0])[0]: row[1].startswith("runs") for row in table("flows.md", "Step types")}
    runs = {*HANDLERS, StepType.PARALLEL_FORK_MANAGER}
    assert documented == {kind.value: kind in runs for kind in StepType}


def test_the_table_of_modules_has_all_of_them():
    rows = table("flows.md", "Modules")
    assert {codes(row[0])[0] for row in rows} == set(MODULES)
    for row in rows:
        module = MODULES.get(codes(row[0])[0])
        assert module is None or codes(row[1])[0] in module.step_types


def test_the_table_of_module_inputs_names_fields_that_exist():
    for row in table("flows.md", "Modules"):
        module = MODULES.get(codes(row[0])[0])
        if module is None or module.input_model is None:
            continue
        fields = {field.alias or name for name, field in module.input_model.model_fields.items()}
        documented = set(codes(re.sub(r"\([^)]*\)", "", row[2])))
        assert documented <= fields, row[0]


def test_the_table_of_the_airflow_object_has_all_its_keys():
    documented = [key for row in table("flows.md", "The `airflow` object") for key in codes(row[0])]
    assert sorted(documented) == sorted(field.alias for field in AirflowOptions.model_fields.values())


def test_the_table_of_settings_agrees_with_the_providers_metadata():
    rows = {codes(row[0])[0]: row for row in table("settings.md", "The `[allma]` section")}
    assert list(rows) == list(OPTIONS)
    own = {field.alias for field in AirflowOptions.model_fields.values()}
    for name, row in rows.items():
        default = OPTIONS[name]["default"]
        assert "".join(codes(row[1])) == default, name
        in_flow = re.sub(r"_(.)", lambda found: found[1].upper(), name)
        assert codes(row[2]) == ([in_flow] if in_flow in own else []), name


def fenced(page: str) -> list[str]:
    return [
        block.partition("\n")[2].removesuffix("```") for block in _FENCED.findall((ROOT / page).read_text())
    ]


def cli(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> tuple[int, str]:
    monkeypatch.chdir(folder)
    ended = CliRunner().invoke(app, list(arguments))
    return ended.exit_code, ended.stdout


def test_validate_prints_the_problems_on_the_page(tmp_path, monkeypatch):
    blocks = fenced("docs/command-line.md")
    (index,) = (number for number, block in enumerate(blocks) if '"id": "broken"' in block)
    (tmp_path / "broken.json").write_text(blocks[index])
    assert cli(monkeypatch, tmp_path, "validate", "broken.json") == (1, blocks[index + 1])


def test_the_graph_on_the_page_is_that_of_the_first_flow(tmp_path, monkeypatch):
    (greet,) = (block for block in fenced("README.md") if '"id": "greet"' in block)
    (tmp_path / "greet.json").write_text(greet)
    (drawn,) = (block for block in fenced("docs/command-line.md") if block.startswith("Dag greet"))
    assert cli(monkeypatch, tmp_path, "graph", "greet.json") == (0, drawn)


def test_the_run_on_the_page_is_that_of_the_first_flow(tmp_path, monkeypatch):
    (greet,) = (block for block in fenced("README.md") if '"id": "greet"' in block)
    (tmp_path / "greet.json").write_text(greet)
    (shown,) = (block for block in fenced("docs/command-line.md") if block.startswith("$ airflow-allma run"))
    code, out = cli(monkeypatch, tmp_path, "run", "greet.json", "--payload", '{"people": [{"name": "Ada"}]}')
    ran, documented = json.loads(out), json.loads(shown.partition("\n")[2])
    for one in (ran, documented):
        del one["context"]["flow_variables"]["flowExecutionId"]
    assert (code, ran) == (0, documented)


def test_the_folder_on_its_page_runs_as_the_page_says(tmp_path, monkeypatch):
    page = (ROOT / "docs/folder.md").read_text()
    for name, content in re.findall(r"^`(\S+\.json)`:\n\n```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    command, result = re.findall(r"^\$ airflow-allma (.*)\n(.*)$", page, re.MULTILINE)[0]
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, shlex.split(command))
    assert without_run_id(json.loads(ran.stdout)) == without_run_id(json.loads(result))


def without_run_id(answer):
    answer["context"]["flow_variables"].pop("flowExecutionId")
    return answer
