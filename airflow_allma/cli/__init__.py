"""The command line, ``airflow-allma``: flows are checked, run and drawn, and stored results are read.

None of the commands but ``events`` and ``rerun`` needs a running Airflow.

Exit codes: 0 success; 1 a flow has errors (``validate``) or ended FAILED (``run``); 2 wrong usage, or the
flow is not valid; 3 the flow waits for an event (``run``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app", "main"]

app = typer.Typer(
    name="airflow-allma",
    help="Declarative, massively parallel Allma flows on Apache Airflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

FlowFile = Annotated[Path, typer.Argument(help="A flow file, or an export of several flows.", exists=True)]
FlowId = Annotated[str | None, typer.Option("--flow", help="Which flow of an export with several.")]
Deploy = Annotated[
    list[str] | None,
    typer.Option(
        "--deploy", metavar="NAME=VALUE", help="The value of {{NAME}} in flow variables; can be repeated."
    ),
]


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="Airflow's dags folder, or a folder in it.", file_okay=False)
    ],
    examples: Annotated[
        bool, typer.Option("--examples", help="Write the two example flows as well.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that have other content.")] = False,
) -> None:
    """Write the two loader files that turn the flows of a folder into Dags."""
    from airflow_allma.cli.init_command import init_folder

    raise typer.Exit(init_folder(folder, examples=examples, force=force))


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Flow files, or folders of them.", exists=True)],
    deploy: Deploy = None,
) -> None:
    """Print every problem of flow files, each with its location and how to fix it."""
    from airflow_allma.cli.deploy_option import read_deploy_options
    from airflow_allma.cli.validate_command import validate_paths

    raise typer.Exit(validate_paths(paths, read_deploy_options(deploy or ())))


@app.command()
def run(  # noqa: PLR0917 - typer passes options by name
    flow: FlowFile,
    payload: Annotated[
        str | None, typer.Option("--payload", help="The run's payload: a JSON file or a JSON object.")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", help="Run this step alone, and print its output as well.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="Start the run at this step.")] = None,
    context: Annotated[
        str | None,
        typer.Option(
            "--context", help="The data at that step: a JSON file, such as the output of a run, or an object."
        ),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            metavar="KEY=JSON",
            help="An event that the flow waits for: its key and payload; can be repeated.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="file:///folder, in which bucket B is the folder B. Default: AWS."),
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Write a record of every step to stderr.")] = False,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="Run forks in chunks where Airflow would, with stored results.")
    ] = False,
    pretty: Annotated[bool, typer.Option("--pretty", help="Indent the result.")] = False,
    flow_id: FlowId = None,
    deploy: Deploy = None,
) -> None:
    """Run a flow here, without Airflow, and print {"status", "error", "path", "context"}."""
    from airflow_allma.cli.deploy_option import read_deploy_options
    from airflow_allma.cli.run_command import run_flow_file
    from airflow_allma.cli.start_option import StartOption

    raise typer.Exit(
        run_flow_file(
            flow,
            start=lambda: StartOption.read(payload=payload, context=context, step=step, first=first),
            events=event or (),
            store=store,
            trace=trace,
            chunks=chunks,
            pretty=pretty,
            flow_id=flow_id,
            deploy=read_deploy_options(deploy or ()),
        )
    )


@app.command()
def plan(  # noqa: PLR0917 - typer passes options by name
    flow: FlowFile,
    payload: Annotated[
        str, typer.Option("--payload", help="The run's payload: a JSON file or a JSON object.")
    ] = "{}",
    store: Annotated[
        str | None,
        typer.Option("--store", help="file:///folder, in which bucket B is the folder B. Default: AWS."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    flow_id: FlowId = None,
    deploy: Deploy = None,
) -> None:
    """Show what Airflow would do: tasks, and each fork's mode, map indexes and chunks. Runs nothing."""
    from airflow_allma.cli.deploy_option import read_deploy_options
    from airflow_allma.cli.plan_command import plan_flow_file

    raise typer.Exit(
        plan_flow_file(
            flow,
            payload=payload,
            store=store,
            as_json=as_json,
            flow_id=flow_id,
            deploy=read_deploy_options(deploy or ()),
        )
    )


@app.command()
def graph(
    flow: FlowFile,
    svg: Annotated[
        bool, typer.Option("--svg", help="Print the flow's steps as an SVG picture instead.")
    ] = False,
    flow_id: FlowId = None,
) -> None:
    """Show the Airflow tasks that a flow becomes, as text and as a Mermaid chart."""
    from airflow_allma.cli.graph_command import draw_flow_file

    raise typer.Exit(draw_flow_file(flow, flow_id, svg=svg))


@app.command()
def schema(
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse unknown fields, and strings that cannot be a path.")
    ] = False,
) -> None:
    """Print the JSON Schema of flow files, for editors."""
    from airflow_allma.flow.schema_files import read_schema

    typer.echo(read_schema(strict=strict), nl=False)


events = typer.Typer(help="List what the flows of a running Airflow wait for, and resume them.")
app.add_typer(events, name="events", no_args_is_help=True)

ServerUrl = Annotated[
    str, typer.Option("--url", envvar="AIRFLOW_API_URL", help="The address of Airflow's API server.")
]
ServerToken = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="AIRFLOW_API_TOKEN",
        help="A token for it. Without one: AIRFLOW_API_USER and AIRFLOW_API_PASSWORD.",
    ),
]
# In the environment only: other users of the machine can see a command's options.
ServerUser = Annotated[str, typer.Option(envvar="AIRFLOW_API_USER", hidden=True)]
ServerPassword = Annotated[str, typer.Option(envvar="AIRFLOW_API_PASSWORD", hidden=True)]


@events.command("list")
def list_events(  # noqa: PLR0917 - typer passes options by name
    url: ServerUrl = "",
    token: ServerToken = "",
    user: ServerUser = "",
    password: ServerPassword = "",
    dag: Annotated[str | None, typer.Option("--dag", help="Only waits of this Dag.")] = None,
    key: Annotated[str, typer.Option("--key", help="Only keys that contain this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List what waits for which event since when, the longest waits first."""
    from airflow_allma.cli.airflow_server import AirflowServer
    from airflow_allma.cli.events_command import list_waits

    server = AirflowServer(url, token, user, password)
    raise typer.Exit(list_waits(server, dag_id=dag, key=key, as_json=as_json))


@events.command("resume")
def resume_event(  # noqa: PLR0917 - as above
    key: Annotated[str, typer.Argument(help="The correlation key that a flow waits for.")],
    payload: Annotated[
        str, typer.Option("--payload", help="What the flow gets: a JSON file or a JSON object.")
    ] = "{}",
    url: ServerUrl = "",
    token: ServerToken = "",
    user: ServerUser = "",
    password: ServerPassword = "",
) -> None:
    """Send an event to the flow that waits for a key."""
    from airflow_allma.cli.airflow_server import AirflowServer
    from airflow_allma.cli.events_command import resume_wait

    raise typer.Exit(resume_wait(AirflowServer(url, token, user, password), key, payload))


@app.command()
def rerun(  # noqa: PLR0917 - as above
    dag: Annotated[str, typer.Argument(help="The Dag.")],
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of its run, which has ended.")],
    fork: Annotated[str, typer.Option("--fork", help="The fork's step id.")],
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only items that failed in this way: a kind's id.")
    ] = None,
    index: Annotated[
        int | None, typer.Option("--index", help="One item by its index, from 0; a good one too.", min=0)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    url: ServerUrl = "",
    token: ServerToken = "",
    user: ServerUser = "",
    password: ServerPassword = "",
) -> None:
    """Rerun the failed items of a fork, those that failed in the same way, or one item."""
    from airflow_allma.cli.airflow_server import AirflowServer
    from airflow_allma.cli.rerun_command import rerun_items

    server = AirflowServer(url, token, user, password)
    code = rerun_items(server, dag, run_id, fork=fork, kind=kind, index=index, dry_run=dry_run)
    raise typer.Exit(code)


StoredRun = Annotated[
    str,
    typer.Argument(
        metavar="RUN|FOLDER",
        help="FLOW/RUN-ID below the offload location, or the run's folder: a path, s3:// or file:/// URL",
    ),
]
ForkId = Annotated[str, typer.Option("--fork", help="The fork's step id.")]
ItemIndex = Annotated[int, typer.Option("--index", help="The item's index, from 0.", min=0)]
BranchId = Annotated[
    str | None, typer.Option("--branch", help="Which branch. Default: one that failed, if there is one.")
]
Store = Annotated[
    str | None,
    typer.Option("--store", help="file:///folder, in which bucket B is the folder B. Default: AWS."),
]


@app.command()
def items(  # noqa: PLR0917 - typer passes options by name
    run: StoredRun,
    fork: ForkId,
    failed: Annotated[bool, typer.Option("--failed", help="Only items that failed.")] = False,
    kind: Annotated[str | None, typer.Option("--kind", help="Only failures of this kind: its id.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Only labels that contain this.")] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Only items whose input or result contains this.")
    ] = None,
    branch: Annotated[str | None, typer.Option("--branch", help="Only this branch.")] = None,
    start: Annotated[int, typer.Option("--start", help="Where the page before ended.", min=0)] = 0,
    limit: Annotated[int, typer.Option("--limit", help="Rows at most.", min=1, max=500)] = 50,
    store: Store = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how a fork's items ended: counts, failures by kind, and a page of items."""
    from airflow_allma.cli.items_command import print_items

    query = {
        "show": "failed" if failed else "all",
        "kind": kind,
        "label": label,
        "text": text,
        "branch": branch,
        "start": start,
        "limit": limit,
    }
    raise typer.Exit(print_items(run, fork, query=query, store=store, as_json=as_json))


@app.command()
def item(  # noqa: PLR0917 - as above
    run: StoredRun,
    fork: ForkId,
    index: ItemIndex,
    branch: BranchId = None,
    store: Store = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show one item: its input, its steps with what they called, and its output or error."""
    from airflow_allma.cli.items_command import print_item

    code = print_item(run, fork, index=index, branch=branch, store=store, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def replay(  # noqa: PLR0917 - as above
    run: StoredRun,
    fork: ForkId,
    index: ItemIndex,
    flows: Annotated[
        Path, typer.Option("--flows", help="The folder of flows, or the flow's file.", exists=True)
    ] = Path(),
    branch: BranchId = None,
    context: Annotated[
        str | None,
        typer.Option("--context", help="The data at the fork if the branch reads it: a JSON file or object."),
    ] = None,
    item: Annotated[
        str | None, typer.Option("--item", help="The item, if it is not recorded: a JSON file or object.")
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Write a record of every step to stderr.")] = False,
    store: Store = None,
    deploy: Deploy = None,
) -> None:
    """Run an item again on this machine, with what its steps call and write."""
    from airflow_allma.cli.deploy_option import read_deploy_options
    from airflow_allma.cli.replay_command import Replay, replay_item

    options = Replay(run, fork, index, branch, flows, context, item, store, read_deploy_options(deploy or ()))
    raise typer.Exit(replay_item(options, trace=trace))


mcp = typer.Typer(help="Look at MCP servers, whose tools MCP_CALL steps call.")
app.add_typer(mcp, name="mcp", no_args_is_help=True)


@mcp.command("list")
def list_mcp_tools(
    connection: Annotated[
        str, typer.Argument(help="An Airflow connection in the environment, or one that the folder defines.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", help="A folder of flow files with mcpConnections.", exists=True, file_okay=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list, with schemas.")] = False,
) -> None:
    """List the tools of a server, with their arguments."""
    from airflow_allma.cli.mcp_command import list_tools

    raise typer.Exit(list_tools(connection, folder=folder, as_json=as_json))


def main() -> None:
    """Run the console script."""
    app()
