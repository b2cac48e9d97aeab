"""The files of a ``resultWriter``: what succeeded, what failed, and a manifest that names both.

Below the location, the folder of a fork is ``<Dag id>/<run id>/<step id>``. A fork inside a branch has
``<fork>/<branch>/<item>`` of each branch run around it before its own id. A fork in a loop has ``pass=2``,
``pass=3`` and so on below its id, after the first pass. So whatever runs again writes the same keys again.

``manifest.json`` is written twice. Before the first result it says ``WRITING`` and names no files, so that it
never names files that are being replaced; when all files are complete, it names them. Files of an earlier try
with higher numbers are emptied, since a store cannot delete: whoever reads all files by their names finds
each result once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from airflow_allma.engine.item_facts import ItemFacts
from airflow_allma.engine.numbered_files import NumberedFiles
from airflow_allma.engine.program import CompiledFork
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo
from airflow_allma.exceptions import ObjectAccessDeniedError, StorageConfigurationError, StorageError
from airflow_allma.storage import ObjectPrefix, ObjectStore, OffloadLocation, Pointer, encode_value
from airflow_allma.storage.object_store import JSON_TYPE

__all__ = ["ResultFiles", "result_files"]

_FORMAT_VERSION: Final = 1
_MAX_FILE_BYTES: Final = 64 << 20
_MAX_FILE_LINES: Final = 1_000_000
_PLACE_FIELDS: Final = ("object", "byteOffset", "lineNumber", "rowNumber", "itemOffset")


class _Line(msgspec.Struct, gc=False):
    """One line of a file; what is UNSET is left out."""

    index: int
    branch: str
    label: str | UnsetType = UNSET
    input: Any = UNSET
    place: Any = UNSET
    output: Any = UNSET
    error: Any = UNSET


class ResultFiles:
    """Writes the results of a fork as they are read to be aggregated.

    Blocks while it writes to the store; memory holds less than a file.

    Args:
        store: the store of the location.
        folder: the fork's own folder.
        heading: what the manifest says of the run and the fork.
        facts: what the lines say of an item beside its results.
        services: for the log.
        max_bytes: maximum bytes of a file.
        max_lines: maximum lines of a file.
    """

    def __init__(
        self,
        store: ObjectStore,
        folder: OffloadLocation,
        heading: dict[str, Any],
        facts: ItemFacts,
        services: Services,
        *,
        max_bytes: int = _MAX_FILE_BYTES,
        max_lines: int = _MAX_FILE_LINES,
    ) -> None:
        self._store = store
        self._folder = folder
        self._heading = heading
        self._facts = facts
        self._log = services.log
        self._succeeded, self._failed = (
            NumberedFiles(store, folder, name, max_bytes=max_bytes, max_lines=max_lines)
            for name in ("succeeded", "failed")
        )
        self._counts = {"items": 0, "succeeded": 0, "failed": 0, "skipped": 0}
        self._index = -1
        self._results: Iterator[BranchResult] = iter(())
        self._can_continue = True

    def watch(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        """Return the same results, each of which is written before it is passed on.

        Args:
            results: of all branch runs, in item order, then in branch order.

        Raises:
            StorageError: by the iterator: the files cannot be written; the message names the location.
        """
        self._results = self._watched(results)
        return self._results

    def _watched(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        self._can_continue = False
        try:
            self._write_manifest({"status": "WRITING", "files": {}})
        except StorageError as error:
            raise self._refused(error) from error
        for result in results:
            try:
                self._add(result)
            except StorageError as error:
                raise self._refused(error) from error
            # From here on, an error is that of whoever reads the results.
            self._can_continue = True
            yield result
            self._can_continue = False
        self._can_continue = True

    def _add(self, result: BranchResult) -> None:
        counts, facts, index = self._counts, self._facts, result.item_index
        if index != self._index:
            self._index = index
            counts["items"] += 1
            facts.enter(index)
        if result.status is BranchStatus.SKIPPED:
            counts["skipped"] += 1
            return
        line = _Line(index, result.branch_id, facts.label, facts.input, facts.place)
        if result.status is BranchStatus.FAILED:
            counts["failed"] += 1
            line.error = result.error
            if line.input is UNSET:
                line.place = _place_of(facts, result.error or {}) or UNSET
            self._failed.add(encode_value(line))
        else:
            counts["succeeded"] += 1
            line.output = result.output
            self._succeeded.add(encode_value(line))

    def finish(self) -> None:
        """Complete the files, then the manifest, once all results have been read.

        Raises:
            StorageError: the store refused; the message names the location.
        """
        self._can_continue = False
        try:
            files = {}
            for name, numbered in (("succeeded", self._succeeded), ("failed", self._failed)):
                numbered.close()
                files[name] = numbered.written
                self._empty_others(numbered)
            self._write_manifest({"status": "COMPLETE", "counts": self._counts, "files": files})
        except StorageError as error:
            raise self._refused(error) from error

    def finish_after(self, error: BaseException) -> None:
        """Do the same after the aggregation has failed, if the rest of the results can be read.

        Args:
            error: why it failed; it is what the fork fails with, whatever happens here.
        """
        if not self._can_continue or not isinstance(error, Exception):
            self._abandon(error)
            return
        try:
            for _ in self._results:
                pass
            self.finish()
        except Exception as failure:  # noqa: BLE001 - the first error is the one that matters
            self._abandon(failure)
            self._log.warning("The files of the resultWriter are not complete: %s", failure)

    def _abandon(self, error: BaseException) -> None:
        self._succeeded.abandon(error)
        self._failed.abandon(error)

    def _empty_others(self, numbered: NumberedFiles) -> None:
        try:
            numbered.empty_others()
        except ObjectAccessDeniedError as error:
            self._log.warning(
                "Files of an earlier try may be left in %s, which cannot be listed; manifest.json names those"
                " that count: %s",
                self._folder.uri,
                error,
            )

    def _write_manifest(self, content: dict[str, Any]) -> None:
        data = encode_value({"formatVersion": _FORMAT_VERSION, **self._heading, **content})
        self._store.write(self._folder.pointer("manifest", ending=".json"), data, content_type=JSON_TYPE)

    def _refused(self, error: StorageError) -> StorageError:
        return type(error)(
            f"Step {self._heading['step']}: the results cannot be written to {self._folder.uri}, which is "
            f"below resultWriter.location: {error}"
        )


def result_files(
    fork: CompiledFork,
    info: RunInfo,
    services: Services,
    facts: ItemFacts | None = None,
    source: Pointer | ObjectPrefix | None = None,
) -> ResultFiles | None:
    """Return what writes the files of a fork; None if the fork has no ``resultWriter``.

    Args:
        fork: the fork.
        info: the run, or the branch run that contains the fork.
        services: for the store and the log.
        facts: what is known about the items; None for nothing.
        source: the object that holds the items; None for a list.

    Raises:
        StorageConfigurationError: no store is configured, or the location is not valid.
    """
    writer = fork.model.result_writer
    if writer is None:
        return None
    step = fork.step_id
    if services.store is None:
        raise StorageConfigurationError(
            f"Step {step}: no store is configured for resultWriter.location. Set [allma] aws_conn_id."
        )
    folder = _folder_of(OffloadLocation.parse(writer.location), info, step)
    heading: dict[str, Any] = {
        "flowId": info.flow_id,
        "flowVersion": info.flow_version,
        "flowExecutionId": info.flow_execution_id,
        "dagId": info.key_ids[0],
        "runId": info.key_ids[1],
        "step": step,
        "bucket": folder.bucket,
    }
    if source is not None:
        heading["source"] = source.inner()
    return ResultFiles(services.store, folder, heading, facts or ItemFacts(), services)


def _folder_of(location: OffloadLocation, info: RunInfo, step: str) -> OffloadLocation:
    identifiers = [*info.key_ids]
    for fork, visit, branch, item in info.branch_path:
        identifiers += [fork, *_pass(visit), branch, str(item)]
    return location.below(*identifiers, step, *_pass(info.fork_visit))


def _pass(visit: int) -> list[str]:
    return [f"pass={visit + 1}"] if visit else []


def _place_of(facts: ItemFacts, error: dict[str, Any]) -> dict[str, Any]:
    """Return where an item is, as far as it is known, and as its error says."""
    place = {} if isinstance(facts.place, UnsetType) else dict(facts.place)
    details = error.get("errorDetails")
    if isinstance(details, dict):
        place.update({name: details[name] for name in _PLACE_FIELDS if name in details})
    return place
