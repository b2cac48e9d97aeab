"""The settings of the ``[allma]`` section: one table, from which Airflow's own listing is made too."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from airflow_allma.flow import AirflowOptions

__all__ = ["OPTIONS", "SECTION", "AllmaSettings", "Option", "integer_option"]

SECTION: Final = "allma"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of ``[allma]``.

    Attributes:
        description: what it means, with its unit.
        default: its value when nobody sets it; "" for none.
        kind: its type in Airflow's listing.
        example: a value to copy.
    """

    description: str
    default: str
    kind: str = "integer"
    example: str | None = None


OPTIONS: Final[dict[str, Option]] = {
    "max_in_memory_items": Option(
        "Forks over longer lists run in chunks instead of as one mapped task instance an item. "
        "``[core] max_map_length`` bounds it too.",
        "300",
    ),
    "max_in_memory_bytes": Option("Forks over lists with more bytes of JSON run in chunks.", "1048576"),
    "chunk_bytes": Option("Bytes of a manifest that one chunk aims at.", "1048576"),
    "max_chunks": Option("Most chunks, that is map indexes, of one fork; chunks grow instead.", "200"),
    "chunk_concurrency": Option(
        "Branch runs in flight in one chunk when the fork sets no maxConcurrency.", "64"
    ),
    "result_part_bytes": Option(
        "A chunk writes a part of its results when so many bytes of them wait, or after ten seconds. "
        "A killed chunk does again what no part has.",
        "1048576",
    ),
    "step_timeout_seconds": Option(
        "One try of a step that waits for something is given up after so many seconds, unless the step "
        "itself says how long it waits. 0: never.",
        "900",
    ),
    "lost_task_retries": Option(
        "How often a fork's own tasks (items, chunks, chunk and aggregate) run again when their process was "
        "lost. They run no step twice whose result is kept. Tasks of single steps have the retries of their "
        "step, or ``[core] default_task_retries``.",
        "2",
    ),
    "max_inline_bytes": Option(
        "Bytes of JSON that the results of a chunk or a fork may have without an offload_location.",
        "16777216",
    ),
    "context_offload_bytes": Option(
        "A run's data with more bytes of JSON travels between tasks through the offload location.", "102400"
    ),
    "output_offload_bytes": Option(
        "Step outputs, and COLLECT_ARRAY results of forks, with more bytes of JSON are kept in the offload "
        "location.",
        "10240",
    ),
    "log_bytes": Option(
        "Bytes of JSON, in UTF-8, of each input, output or error that are shown in a task's log.", "4096"
    ),
    "offload_location": Option(
        "Where large values, spilled lists and results of chunks are kept. Empty: everything stays in XComs.",
        "",
        "string",
        "s3://my-bucket/allma",
    ),
    "aws_conn_id": Option(
        "The Airflow connection for all AWS access; region and endpoint come from it. "
        "Empty: the credentials of the worker's own environment.",
        "aws_default",
        "string",
    ),
    "custom_module_prefixes": Option(
        "Python modules whose functions flows may name as CUSTOM_MODULE, with all modules below them, "
        "separated by commas. Empty: all but Python's own.",
        "",
        "string",
        "shop.aggregators,common.flows",
    ),
}


@dataclass(frozen=True, slots=True)
class AllmaSettings:
    """The settings of one flow: ``[allma]``, with what the flow's ``airflow`` object says on top.

    Attributes are named as the options; see ``OPTIONS`` for their meaning.
    """

    max_in_memory_items: int
    max_in_memory_bytes: int
    chunk_bytes: int
    max_chunks: int
    chunk_concurrency: int
    result_part_bytes: int
    step_timeout_seconds: int
    lost_task_retries: int
    max_inline_bytes: int
    context_offload_bytes: int
    output_offload_bytes: int
    log_bytes: int
    offload_location: str
    aws_conn_id: str
    custom_module_prefixes: str

    @classmethod
    def load(cls, own: AirflowOptions | None = None) -> AllmaSettings:
        """Read Airflow's configuration; runs where tasks run.

        Args:
            own: what the flow itself says.

        Raises:
            AirflowConfigException: a number is not a number; the message names the option.
        """
        from airflow.sdk.configuration import conf

        values: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            option = OPTIONS[name]
            said = getattr(own, name, None)
            if said is not None:
                values[name] = said
            elif option.kind == "integer":
                values[name] = integer_option(name)
            else:
                values[name] = conf.get(SECTION, name, fallback=option.default) or ""
        longest = conf.getint("core", "max_map_length", fallback=1024)
        values["max_in_memory_items"] = min(values["max_in_memory_items"], longest)
        values["max_chunks"] = max(1, min(values["max_chunks"], longest))
        return cls(**values)

    @property
    def module_prefixes(self) -> tuple[str, ...]:
        """``custom_module_prefixes`` one by one."""
        return tuple(prefix.strip() for prefix in self.custom_module_prefixes.split(",") if prefix.strip())

    def changed(self, **values: Any) -> AllmaSettings:
        """The same, but for those values that are not None."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})


def integer_option(name: str) -> int:
    """One setting of ``[allma]`` as Airflow's configuration has it.

    Raises:
        AirflowConfigException: it is not a number; the message names the option.
    """
    from airflow.sdk.configuration import conf

    return int(conf.getint(SECTION, name, fallback=int(OPTIONS[name].default)))
