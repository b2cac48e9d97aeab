"""The flow files that a loader reads: all of its folders, or the few that name one flow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Self

from airflow_allma.configuration import allowed_notifiers, allowed_secrets, deploy_variables, external_modules
from airflow_allma.dag_factory.airflowignore import AirflowIgnoreFiles
from airflow_allma.dag_factory.file_index import files_that_name, needs_of_file, recently_named
from airflow_allma.flow import (
    FileCache,
    Flow,
    FoundFile,
    FoundFiles,
    LoadedFolder,
    find_files,
    load_found_files,
    safe_dag_id,
)
from airflow_allma.loading import flow_checks

__all__ = ["FlowFolders", "Places"]

Places = str | Path | Iterable[str | Path] | None
"""What a caller names: a folder or several; a file counts as its folder; None is Airflow's dags folder."""


@dataclass(frozen=True, slots=True)
class FlowFolders:
    """The folders of a loader.

    Attributes:
        folders: where flow files are.
        dags_folder: Airflow's; its ``.airflowignore`` counts also for folders deep inside it.
    """

    folders: tuple[Path, ...]
    dags_folder: Path

    @classmethod
    def of(cls, places: Places) -> Self:
        """Return the folders that a caller names."""
        from airflow.sdk import conf

        dags_folder = Path(conf.get("core", "dags_folder"))
        if places is None:
            places = dags_folder
        listed = [places] if isinstance(places, str | Path) else places
        paths = map(Path, listed)
        return cls(tuple(path.parent if path.is_file() else path for path in paths), dags_folder)

    def load_all(self) -> LoadedFolder:
        """Read all flow files."""
        found = map(self._find, self.folders)
        return load_found_files(found, _process_cache(lints=True), deploy=deploy_variables())

    def load_one(self, dag_id: str) -> LoadedFolder:
        """Read only the files that a flow with this Dag id needs; all files if it is in none of those.

        They are the files that name the flow, among them those of its agents, and those that define what the
        flow uses.
        """
        named = self._files_of(dag_id)
        if len(self.folders) > 1:
            named = self._with_needs(named)
        loaded = load_found_files(
            (FoundFiles(tuple(files), ()) for files in named),
            _process_cache(lints=False),
            deploy=deploy_variables(),
            is_complete=False,
        )
        if any(safe_dag_id(source.flow.id) == dag_id for source in loaded.flows):
            return loaded
        return self.load_all()

    def find(self, flow_id: str, version: str) -> Flow:
        """Return one version of a flow that a step runs, in the task's process; see ``find_flow``."""
        from airflow_allma.engine import find_flow

        return find_flow(self.load_one(safe_dag_id(flow_id)), flow_id, version)

    def _files_of(self, key: str) -> list[tuple[FoundFile, ...]]:
        """Return each folder's files that name or define something, and those that they need of it."""
        recent = [recently_named(key, folder) for folder in self.folders]
        if any(recent) and None not in recent:
            return [files or () for files in recent]
        return [files_that_name(key, folder, partial(self._find, folder)) for folder in self.folders]

    def _with_needs(self, named: list[tuple[FoundFile, ...]]) -> list[tuple[FoundFile, ...]]:
        """Return files with those of the other folders that define what they use, and so on."""
        found = [dict.fromkeys(files) for files in named]
        waiting = [file for files in named for file in files]
        seen: set[str] = set()
        while waiting:
            for need in needs_of_file(waiting.pop().path):
                if need in seen:
                    continue
                seen.add(need)
                for files, more in zip(found, self._files_of(need), strict=True):
                    waiting += (file for file in more if file not in files)
                    files.update(dict.fromkeys(more))
        return [tuple(files) for files in found]

    def _find(self, folder: Path) -> FoundFiles:
        base = self.dags_folder if folder.is_relative_to(self.dags_folder) else folder
        return find_files(folder, AirflowIgnoreFiles(base), self.dags_folder)


@cache
def _process_cache(*, lints: bool) -> FileCache:
    # A notifier is checked again when it is called.
    notifiers = allowed_notifiers() if lints else None
    return FileCache(flow_checks(allowed_secrets(), notifiers, external_modules(), lints=lints))
