"""The cost of many flows (1,000 by default): parsing all in the Dag processor, and loading one in a task.

``parse`` is the time per flow for one parse of all flows by the Dag processor. Its reference is dag-factory
with the same Dags: the same number of tasks in a row, of an operator that does nothing, one YAML file per
Dag. dag-factory is installed from PyPI into a temporary folder. ``parse_unchanged`` is a second parse in the
same process, with ``parse`` as its reference.

``task_start`` is what a task waits for in Airflow: its process is forked from one that has imported
everything, and parses the loader's file for the task's Dag. ``task_process`` is the same in a new Python
process, as in a worker that does not fork. ``task_load`` is the loader's part of both, in a process that has
loaded the flow before. The reference of these three is the same with one flow. ``task_first`` is the loader's
part when no task has run before.

With ``--references`` the folder is one configuration: the steps of each flow inherit from one of a hundred
step definitions, each in a file of its own, and each flow has an agent, one of ten, and a deploy variable.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Measure
from demo.dag_files import write_loader

STEPS = 10
DAG_ID = "flow-0"
DEFINITIONS = 100
AGENTS = 10
REQUIREMENTS = Path(__file__).with_name("dag-factory.txt")

PARSE_FOR_TASK = (
    "import sys; from benchmarks.parse import parse_for_task; parse_for_task(sys.argv[1], sys.argv[2])"
)


def parse_for_task(folder: str, temporary: str) -> None:
    """Parse the loader's file for the task's Dag, like a task process before it runs the task."""
    os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = DAG_ID
    os.environ["_AIRFLOW_PARSING_CONTEXT_TASK_ID"] = "step_0"
    tempfile.tempdir = temporary
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.sdk.execution_time import task_runner  # noqa: F401 - a new task process imports it

    bag = BundleDagBag(
        dag_folder=str(Path(folder, "flows.py")),
        safe_mode=False,
        load_op_links=False,
        bundle_path=Path(folder),
        bundle_name="flows",
    )
    assert list(bag.dags) == [DAG_ID], bag.import_errors


def run(flows: int = 1000, rounds: int = 5, *, references: bool = False) -> dict[str, Measure]:
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    os.environ["AIRFLOW__DAG_FACTORY__ENABLE_TELEMETRY"] = "False"
    os.environ["DO_NOT_TRACK"] = "True"
    os.environ["AIRFLOW__ALLMA__DEPLOY_VARIABLES"] = '{"stage": "prod"}'
    # The imports of the LocalExecutor process from which task processes are forked.
    import airflow.executors.local_executor
    import airflow.jobs.scheduler_job_runner
    import airflow.sdk.execution_time.supervisor  # noqa: F401
    import structlog

    from airflow_allma.dag_factory import flow_files, load_flows
    from airflow_allma.plugin import AllmaPlugin

    AllmaPlugin.on_load()
    structlog.configure(processors=[_drop])
    with tempfile.TemporaryDirectory() as temporary:
        # The loader's index of flow files is in the temporary folder too.
        tempfile.tempdir = temporary
        one, all_flows, yaml = (_folder(Path(temporary, name)) for name in ("one", "all", "yaml"))
        _write_flows(one, 1, references=references)
        _write_flows(all_flows, flows, references=references)
        _write_yaml(yaml, flows)

        for folder in (one, all_flows):
            _age(folder)
        load_flows(one)
        first = _seconds(lambda: load_flows(all_flows, only=DAG_ID))
        load = _in_turns(
            lambda: load_flows(one, only=DAG_ID), lambda: load_flows(all_flows, only=DAG_ID), 10 * rounds
        )
        start = _in_turns(lambda: _in_a_fork(one), lambda: _in_a_fork(all_flows), 5 * rounds)
        process = _in_turns(lambda: _in_a_process(one), lambda: _in_a_process(all_flows), rounds)

        def parse() -> object:
            flow_files._process_cache.cache_clear()  # noqa: SLF001 - every parse is the first of its process
            return load_flows(all_flows)

        with _dag_factory(Path(temporary, "dag-factory")) as load_yaml:
            assert _shape(parse()) == _shape(load_yaml(yaml))
            ours, theirs = _in_turns(parse, lambda: load_yaml(yaml), rounds)
        again = _seconds(lambda: load_flows(all_flows))
        assert _serialized(parse()) == _serialized(parse())
        tempfile.tempdir = None
    return {
        "parse": Measure(ours * 1000 / flows, "ms/flow", theirs * 1000 / flows),
        "parse_unchanged": Measure(again * 1000 / flows, "ms/flow", ours * 1000 / flows),
        "task_start": _against_one_flow(start),
        "task_process": _against_one_flow(process),
        "task_load": _against_one_flow(load),
        "task_first": Measure(first * 1000, "ms"),
    }


def _against_one_flow(times: tuple[float, float]) -> Measure:
    one, everything = times
    return Measure(everything * 1000, "ms", one * 1000)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _flow(number: int) -> dict[str, object]:
    steps = {
        f"step_{index}": {
            "stepType": "DATA_TRANSFORMATION",
            "moduleIdentifier": "system/compose-object-from-input",
            "inputMappings": {"n": "$.n", "before": "$.steps_output"},
            **({"defaultNextStepInstanceId": f"step_{index + 1}"} if index + 1 < STEPS else {}),
        }
        for index in range(STEPS)
    }
    return {"id": f"flow-{number}", "startStepInstanceId": "step_0", "steps": steps}


def _flow_with_references(number: int) -> dict[str, object]:
    inherited = {"stepDefinitionId": f"compose-{number % DEFINITIONS}"}
    steps = {
        f"step_{index}": inherited
        | ({"defaultNextStepInstanceId": f"step_{index + 1}"} if index + 1 < STEPS else {})
        for index in range(STEPS)
    }
    variables = {"bucket": f"flow-{number}-{{{{stage}}}}"}
    flow_id = f"flow-{number}"
    return {"id": flow_id, "startStepInstanceId": "step_0", "flowVariables": variables, "steps": steps}


def _definition(number: int) -> dict[str, object]:
    return {
        "id": f"compose-{number}",
        "stepType": "DATA_TRANSFORMATION",
        "moduleIdentifier": "system/compose-object-from-input",
        "inputMappings": {"n": "$.n", "before": "$.steps_output"},
    }


def _write_flows(folder: Path, count: int, *, references: bool) -> None:
    write_loader(folder)
    for number in range(count):
        flow = _flow_with_references(number) if references else _flow(number)
        (folder / f"flow_{number}.json").write_text(json.dumps(flow, indent=1), encoding="utf-8")
    if not references:
        return
    for number in range(min(count, DEFINITIONS)):
        _write_artifact(folder / f"definition_{number}.json", "stepDefinitions", _definition(number))
    for number in range(min(count, AGENTS)):
        flow_ids = [f"flow-{other}" for other in range(number, count, AGENTS)]
        variables = {"team": f"team-{number}"}
        agent: dict[str, object] = {"id": f"team-{number}", "flowIds": flow_ids, "flowVariables": variables}
        _write_artifact(folder / f"agent_{number}.json", "agents", agent)


def _write_artifact(file: Path, kind: str, artifact: dict[str, object]) -> None:
    file.write_text(json.dumps({"formatVersion": "1.0", kind: [artifact]}, indent=1), encoding="utf-8")


def _write_yaml(folder: Path, count: int) -> None:
    for number in range(count):
        lines = [
            f"flow-{number}:",
            '  default_args: {owner: "allma", start_date: 2020-01-01}',
            "  schedule: null",
            "  tasks:",
        ]
        for index in range(STEPS):
            lines += [
                f"    - task_id: step_{index}",
                "      operator: airflow.providers.standard.operators.empty.EmptyOperator",
                *([f"      dependencies: [step_{index - 1}]"] if index else []),
            ]
        (folder / f"flow_{number}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextmanager
def _dag_factory(folder: Path) -> Iterator[Callable[[Path], dict[str, object]]]:
    """Install dag-factory and yield its function that loads a folder."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
    subprocess.run([*install, "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)], check=True)
    sys.path.append(str(folder))
    try:
        from dagfactory import load_yaml_dags

        def load(folder: Path) -> dict[str, object]:
            dags: dict[str, object] = {}
            load_yaml_dags(
                globals_dict=dags,
                dags_folder=str(folder),
                defaults_config_path=str(folder),
                suffix=[".yaml"],
            )
            return dags

        yield load
    finally:
        sys.path.remove(str(folder))


def _shape(dags: object) -> dict[str, list[tuple[str, list[str]]]]:
    assert isinstance(dags, dict)
    return {
        dag_id: [(task.task_id, sorted(task.upstream_task_ids)) for task in dag.tasks]
        for dag_id, dag in sorted(dags.items())
    }


def _serialized(dags: object) -> str:
    from airflow.serialization.serialized_objects import DagSerialization

    assert isinstance(dags, dict)
    return json.dumps([DagSerialization.to_dict(dag) for dag in dags.values()])


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    result = work()
    # A fork reports its own time, without its exit.
    return result if isinstance(result, float) else time.perf_counter() - started


def _in_turns(left: Callable[[], object], right: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median times of two functions, called in turns so that other load affects both equally."""
    left(), right()
    times = [(_seconds(left), _seconds(right)) for _ in range(rounds)]
    return statistics.median(one for one, _ in times), statistics.median(one for _, one in times)


def _in_a_fork(folder: Path) -> float:
    """Return the seconds from the fork of a task process until it has loaded its Dag."""
    reader, writer = os.pipe()
    gc.freeze()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        # Nothing may leave this block: the child would go on as the benchmark and remove the folder.
        try:
            from airflow_allma.dag_factory import flow_files

            # The parent of a task process does not load flows.
            flow_files._process_cache.cache_clear()  # noqa: SLF001
            parse_for_task(str(folder), tempfile.gettempdir())
            os.write(writer, str(time.perf_counter() - started).encode())
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        elapsed = pipe.read()
    os.waitpid(child, 0)
    gc.unfreeze()
    if not elapsed:
        raise RuntimeError("the forked process failed: see its traceback")
    return float(elapsed)


def _in_a_process(folder: Path) -> None:
    command = [sys.executable, "-c", PARSE_FOR_TASK, str(folder), tempfile.gettempdir()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _age(folder: Path) -> None:
    """Wait until the files are old enough for the loader to trust their modification times."""
    newest = max(file.stat().st_ctime for file in folder.iterdir())
    time.sleep(max(0.0, newest + 2.1 - time.time()))


def _drop(*_: object) -> str:
    import structlog

    raise structlog.DropEvent
