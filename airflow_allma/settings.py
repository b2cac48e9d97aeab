"""The settings of the ``[allma]`` section: one table, from which Airflow's own listing is made too.

This module does not import Airflow; ``configuration`` reads the values from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.common.work_budget import DEFAULT_MAX_STEP_WORK
from airflow_allma.flow import AirflowOptions

__all__ = [
    "ENGINE_LIMITS",
    "MODEL_SETTINGS",
    "OPTIONS",
    "SECTION",
    "SQLITE_DAG_DEFAULTS",
    "SQLITE_DEFAULTS",
    "AllmaSettings",
    "Option",
    "names_in",
]

SECTION: Final = "allma"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of ``[allma]``.

    Attributes:
        description: what it means, with its unit.
        default: its value when it is not set; "" for none.
        kind: its type in Airflow's listing.
        example: an example value.
    """

    description: str
    default: str
    kind: str = "integer"
    example: str | None = None

    @property
    def default_value(self) -> int | bool | str:
        """The default as a value of its kind."""
        if self.kind == "integer":
            return int(self.default)
        return self.default == "True" if self.kind == "boolean" else self.default


def names_in(setting: str) -> tuple[str, ...]:
    """Return the names or patterns in a setting, which are separated by commas or white space."""
    return tuple(filter(None, re.split(r"[,\s]+", setting)))


OPTIONS: Final[dict[str, Option]] = {
    "max_in_memory_items": Option(
        "Forks over longer lists run in chunks instead of one mapped task instance per item. "
        "``[core] max_map_length`` limits it too.",
        "300",
    ),
    "max_in_memory_bytes": Option("Forks over lists with more bytes of JSON run in chunks.", "1048576"),
    "max_waiting_tasks": Option(
        "Forks over longer lists run in chunks if their items wait for events: one parked task for many "
        "items, since many parked tasks slow Airflow's scheduler.",
        "20",
    ),
    "chunk_bytes": Option("Target size of a chunk of a manifest, in bytes.", "1048576"),
    "max_chunks": Option(
        "Maximum number of chunks (map indexes) of one fork; beyond it, chunks grow.", "200"
    ),
    "chunk_concurrency": Option(
        "Branch runs in flight in one chunk when the fork sets no maxConcurrency.", "64"
    ),
    "result_part_bytes": Option(
        "A chunk writes a part of its results when this many bytes of them wait, or after ten seconds. "
        "A killed chunk runs again the items that no part contains.",
        "1048576",
    ),
    "step_timeout_seconds": Option(
        "Time limit in seconds for one try of a step that waits for something, unless the step itself "
        "limits how long it waits. 0 means no limit.",
        "900",
    ),
    "lost_task_retries": Option(
        "How often a task is retried when its process is lost or Airflow's API server does not answer. "
        "Errors of steps are not retried by it: those have ``onError.retries``. A step that may have had "
        "side effects runs again only as ``retry_lost_steps`` says.",
        "2",
    ),
    "retry_lost_steps": Option(
        "Whether a step that writes outside of Airflow (an ``API_CALL`` other than GET, HEAD and OPTIONS, "
        "``system/s3-data-saver``) runs again after its process was lost while it ran, without "
        "``onError.retries`` of its own: it may then write twice. Otherwise its task fails and says so.",
        "False",
        "boolean",
    ),
    "max_inline_bytes": Option(
        "Maximum size of the results of a chunk or a fork without an offload_location, in bytes of JSON.",
        "16777216",
    ),
    "context_offload_bytes": Option(
        "A run's data with more bytes of JSON is passed between tasks through the offload location.", "102400"
    ),
    "output_offload_bytes": Option(
        "Step outputs, and COLLECT_ARRAY results of forks, with more bytes of JSON are kept in the offload "
        "location.",
        "10240",
    ),
    "max_unpack_ratio": Option(
        "How many bytes one byte of a gzipped manifest may unpack to, once it has unpacked to 64 MiB. A fork "
        "over an object beyond it fails. 0 means no limit.",
        "200",
    ),
    "log_bytes": Option(
        "Maximum size of each input, output or error in a task's log, in bytes of JSON (UTF-8).", "4096"
    ),
    "trace_items": Option(
        "Which items of forks have traces: what each step got, returned and called. ``failed``: those that "
        "failed. ``all``: all, as in flows with ``enableExecutionLogs``. ``sample:1000``: those that "
        "failed, and every thousandth. ``none``: no traces, also not of the main path.",
        "failed",
        "string",
        "sample:1000",
    ),
    "trace_bytes": Option(
        "Maximum size of each input, output or error in a trace, in bytes of JSON (UTF-8).", "4096"
    ),
    "offload_location": Option(
        "Where large values, spilled lists and chunk results are stored. Empty: step outputs stay in XComs; "
        "lists and results are stored in ``allma`` below ``AIRFLOW_HOME`` under the LocalExecutor, and stay "
        "in XComs under all others.",
        "",
        "string",
        "s3://my-bucket/allma",
    ),
    "aws_conn_id": Option(
        "The Airflow connection for all AWS access, with its region and endpoint. "
        "Empty: the credentials of the worker's own environment.",
        "aws_default",
        "string",
    ),
    "allowed_connections": Option(
        "Ids of the Airflow connections that flows may name, as patterns with ``*`` and ``?``, separated by "
        "commas. Empty: none. The connection of ``aws_conn_id`` itself is always allowed.",
        "*",
        "string",
        "shop_*,billing_api",
    ),
    "allowed_variables": Option(
        "Names of the Airflow Variables that flows may name, as ``allowed_connections``.",
        "*",
        "string",
        "flows_*",
    ),
    "allowed_queues": Option(
        "URLs of the SQS queues that flows may watch, as ``allowed_connections``. What a flow watches, it "
        "receives and deletes.",
        "*",
        "string",
        "https://sqs.eu-west-3.amazonaws.com/*/flows-*",
    ),
    "external_modules": Option(
        "Modules of your own that are not Python packages, a JSON object of module ids. Each is a Lambda "
        "function or an HTTP service. Python modules are entry points of installed packages instead.",
        "",
        "string",
        '{"acme/score": {"lambdaArn": "arn:aws:lambda:eu-central-1:111122223333:function:score"}, '
        '"acme/rate": {"connection": "acme_api", "path": "/rate"}}',
    ),
    "llm_connections": Option(
        "A JSON object of model providers, each with the id of the Airflow connection that has its key, for "
        "LLM_INVOCATION steps without a ``connection``: GEMINI, ANTHROPIC, OPENAI. AWS_BEDROCK uses "
        "``aws_conn_id``.",
        "",
        "string",
        '{"OPENAI": "openai_main", "GEMINI": "vertex_eu"}',
    ),
    "llm_limits": Option(
        "A JSON object of models, as ``PROVIDER/model``, or of providers, each with the requests and tokens "
        "that one process may send per minute. Empty: calls follow the limits that providers report, and "
        "their 429 responses.",
        "",
        "string",
        '{"OPENAI/gpt-4o-mini": {"requestsPerMinute": 6000, "tokensPerMinute": 2000000}}',
    ),
    "llm_prices": Option(
        "A JSON object of models, as ``PROVIDER/model``, or of providers, each with its prices per million "
        "tokens. The costs of calls are computed from them.",
        "",
        "string",
        '{"OPENAI/gpt-4o-mini": {"inputPerMillion": 0.15, "outputPerMillion": 0.6, "currency": "USD"}}',
    ),
    "llm_cache": Option(
        "Whether answers of models are cached in the offload location, by a hash of the whole request, "
        "and used again for the same request.",
        "False",
        "boolean",
    ),
    "custom_module_prefixes": Option(
        "Python modules whose functions flows may use as CUSTOM_MODULE, including all modules below them, "
        "separated by commas. Empty: all modules except those of Python, of Airflow and of what Airflow "
        "requires.",
        "",
        "string",
        "shop.aggregators,common.flows",
    ),
    "deploy_variables": Option(
        "A JSON object of values for the placeholders in flow variables: with stage = prod, ``{{stage}}`` "
        "becomes ``prod`` when a flow is loaded. Set the same value in the Dag processor and in all workers.",
        "",
        "string",
        '{"stage": "prod", "region": "eu-central-1"}',
    ),
    "notifiers": Option(
        "Import paths of the notifier classes that flows may call, as patterns with ``*`` and ``?``, "
        "separated by commas. Empty: none.",
        "",
        "string",
        "airflow.providers.amazon.aws.notifications.*,shop.notifiers.ShopNotifier",
    ),
    "completion_days": Option(
        "How long after its end the completion actions of a run are started, in days, if that was not "
        "possible before.",
        "7",
    ),
    "mcp_stdio": Option(
        "Whether the connection of an MCP server may start a program on the worker (transport ``stdio``). "
        "Otherwise servers have a URL.",
        "False",
        "boolean",
    ),
    "max_step_work": Option(
        "Maximum work of one step: values that its paths visit or that it makes, turns of loops in "
        "templates, and a tenth of the characters that it writes. 0 means no limit.",
        str(DEFAULT_MAX_STEP_WORK),
    ),
    "max_context_bytes": Option(
        "Maximum size of a run's data, in bytes of JSON. 0 means no limit.", "268435456"
    ),
    "max_download_bytes": Option(
        "Maximum size of a file that a FILE_DOWNLOAD step stores, in bytes. 0 means no limit.",
        "5368709120",
    ),
    "early_event_seconds": Option(
        "How long the API server keeps an event for a correlation key that nothing waits for yet, in "
        "seconds. 0: such an event is refused.",
        "600",
    ),
    "max_event_bytes": Option(
        "Maximum size of the payload of an event for a waiting flow, in bytes of JSON.", "225280"
    ),
    "max_fork_depth": Option("How deeply forks can be nested while a run executes. 0 means no limit.", "10"),
    "max_nested_branch_runs": Option(
        "Maximum number of branch runs of forks inside of forks in one process, over lists in the run's "
        "data; each item of the outermost fork adds 1000. 0 means no limit.",
        "1000000",
    ),
}


ENGINE_LIMITS: Final = (
    "max_step_work",
    "max_context_bytes",
    "max_download_bytes",
    "max_fork_depth",
    "max_nested_branch_runs",
)
"""The options that bound what a flow can do; a flow cannot override them."""


MODEL_SETTINGS: Final = ("llm_connections", "llm_limits", "llm_prices", "llm_cache")
"""The options of steps that call language models, as ``engine.llm.ModelServices`` takes them."""


SQLITE_DEFAULTS: Final[Mapping[str, int]] = MappingProxyType({"max_in_memory_items": 20, "max_chunks": 8})
"""Defaults where Airflow's database is SQLite, which has one writer at a time: fewer tasks for each fork."""

SQLITE_DAG_DEFAULTS: Final[Mapping[str, int]] = MappingProxyType(
    {"max_active_tasks_per_dag": 4, "max_active_runs_per_dag": 2}
)
"""Defaults of options in ``[core]`` for the Dags of flows, on SQLite: 8 tasks of a flow at a time."""


@dataclass(frozen=True, slots=True)
class AllmaSettings:
    """The settings of one flow: ``[allma]``, overridden by the flow's ``airflow`` object.

    Attributes have the names of the options; see ``OPTIONS`` for their meaning.

    Attributes:
        local_location: where results and lists are stored without an ``offload_location``, as a URI; "" for
            nowhere. Not an option.
        lowered: the options whose default is lower because Airflow's database is SQLite. Not an option.
    """

    max_in_memory_items: int
    max_in_memory_bytes: int
    max_waiting_tasks: int
    chunk_bytes: int
    max_chunks: int
    chunk_concurrency: int
    result_part_bytes: int
    step_timeout_seconds: int
    lost_task_retries: int
    retry_lost_steps: bool
    max_inline_bytes: int
    context_offload_bytes: int
    output_offload_bytes: int
    max_unpack_ratio: int
    log_bytes: int
    trace_items: str
    trace_bytes: int
    offload_location: str
    aws_conn_id: str
    allowed_connections: str
    allowed_variables: str
    allowed_queues: str
    external_modules: str
    llm_connections: str
    llm_limits: str
    llm_prices: str
    llm_cache: bool
    custom_module_prefixes: str
    deploy_variables: str
    notifiers: str
    completion_days: int
    mcp_stdio: bool
    max_step_work: int
    max_context_bytes: int
    max_download_bytes: int
    early_event_seconds: int
    max_event_bytes: int
    max_fork_depth: int
    max_nested_branch_runs: int
    local_location: str = ""
    lowered: frozenset[str] = frozenset()

    @classmethod
    def from_values(
        cls, configured: Mapping[str, Any], own: AirflowOptions | None = None, *, max_map_length: int
    ) -> AllmaSettings:
        """Combine the values of the configuration with those of a flow.

        Args:
            configured: option name -> value; numbers for integer options.
            own: the flow's ``airflow`` object, whose values override.
            max_map_length: ``[core] max_map_length``, which limits items and chunks too.
        """
        values: dict[str, Any] = {}
        for name in OPTIONS:
            override = getattr(own, name, None)
            values[name] = configured[name] if override is None else override
        values["max_in_memory_items"] = min(values["max_in_memory_items"], max_map_length)
        values["max_chunks"] = max(1, min(values["max_chunks"], max_map_length))
        return cls(**values)

    @classmethod
    def without_airflow(cls, own: AirflowOptions | None = None) -> AllmaSettings:
        """Return the defaults, overridden by a flow, without reading Airflow's configuration."""
        defaults = {name: option.default_value for name, option in OPTIONS.items()}
        return cls.from_values(defaults, own, max_map_length=1024)

    @property
    def results_location(self) -> str:
        """Where lists and results are stored, as a URI; "" for nowhere."""
        return self.offload_location or self.local_location

    def shown(self, name: str) -> str:
        """Return an option and its value for a log, with the reason if it is not the usual default."""
        reason = ", the default with SQLite" if name in self.lowered else ""
        return f"{name} ({getattr(self, name)}{reason})"

    @property
    def module_prefixes(self) -> tuple[str, ...]:
        """``custom_module_prefixes`` as a tuple."""
        return names_in(self.custom_module_prefixes)

    def changed(self, **values: Any) -> AllmaSettings:
        """Return a copy with the values that are not None."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})
