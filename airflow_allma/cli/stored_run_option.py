"""The arguments RUN and FOLDER of commands that read what a run has stored."""

from __future__ import annotations

from pathlib import Path

import typer

from airflow_allma.cli.environment_settings import environment_setting, environment_variable
from airflow_allma.cli.json_options import UsageError
from airflow_allma.cli.run_command import open_store_option
from airflow_allma.common.aws_clients import EnvironmentAws
from airflow_allma.inspection.stored_runs import StoredFork, find_fork
from airflow_allma.storage import ObjectStore, OffloadLocation, open_store
from airflow_allma.storage.pointer import file_path

__all__ = ["open_stored_fork"]


def open_stored_fork(run: str, fork: str, store: str | None) -> StoredFork:
    """Return a fork of a run, and say on standard error which of its plans is shown if it has several.

    Args:
        run: ``FLOW/RUN-ID`` below ``[allma] offload_location``, or the run's own folder: a path, or an
            ``s3://`` or ``file:///`` URL.
        fork: the fork's step id.
        store: the option ``--store``.

    Raises:
        AllmaError: the run or the fork does not exist, or the store cannot be read.
    """
    location = _location(run)
    found = find_fork(_store(location, store), location, fork)
    if found.older:
        typer.echo(
            f"note: {fork} was planned {found.older + 1} times in this run; this is the newest plan, "
            f"{found.view.plan.token}",
            err=True,
        )
    if found.plan is None:
        typer.echo(
            f"note: the plan of {fork} is not stored: the results were deleted, or the run is from an older "
            "version. Inputs are not known",
            err=True,
        )
    return found


def _location(run: str) -> OffloadLocation:
    if "://" in run:
        return OffloadLocation.parse(run)
    path = Path(run)
    if path.is_dir():
        return OffloadLocation.parse(path.absolute().as_uri())
    flow, separator, run_id = run.partition("/")
    setting = environment_setting("offload_location")
    if not separator or not flow or not run_id:
        raise UsageError(
            f"{run!r} is neither a folder nor FLOW/RUN-ID: the flow's Dag and the run, with a slash between"
        )
    if not setting:
        raise UsageError(
            f"{run!r} is not a folder, and {environment_variable('offload_location')}, below which runs are, "
            "is not set. Set it, or pass the run's folder"
        )
    return OffloadLocation.parse(setting).below(flow, run_id)


def _store(location: OffloadLocation, store: str | None) -> ObjectStore:
    if store is not None:
        objects = open_store_option(store, create=False)
        if objects is not None:
            return objects
    return open_store(EnvironmentAws(16), _local_root(location))


def _local_root(location: OffloadLocation) -> OffloadLocation | None:
    """Return the local folder whose files can be read: the offload location, which manifests can be in."""
    folder = location.folder
    if folder is None:
        return OffloadLocation.from_setting(environment_setting("offload_location"))
    setting = OffloadLocation.from_setting(environment_setting("offload_location"))
    root = None if setting is None else file_path(setting.bucket, setting.prefix)
    if root is not None and folder.is_relative_to(root):
        return setting
    # A run's folder is <offload location>/<flow>/<run>.
    parents = folder.parents
    return OffloadLocation.parse(parents[min(1, len(parents) - 2)].as_uri()) if len(parents) > 1 else location
