"""Flow files that were read before and have not changed since, nor what they use of other files."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Final

from airflow_allma.flow.catalog import Catalog
from airflow_allma.flow.checks import FlowChecks
from airflow_allma.flow.definitions import StepDefinitions
from airflow_allma.flow.discovery import FoundFile, Stamp
from airflow_allma.flow.file_contents import FileContents, read_file
from airflow_allma.flow.files import LoadedFile, check_file

__all__ = ["FileCache"]

_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class _Known:
    """A file that was read.

    Attributes:
        stamp: its state at that time.
        contents: what it contains, without the document.
        loaded: the result of its check; None before the first one.
        dependencies: what the result depended on in other files.
    """

    stamp: Stamp
    contents: FileContents
    loaded: LoadedFile | None = None
    dependencies: tuple[object, ...] = ()


@dataclass(slots=True)
class FileCache:
    """Reads and checks files, once as long as nothing changes. Flows are immutable, so they can be shared.

    Attributes:
        checks: what is checked in each file beyond the flow language.
    """

    checks: FlowChecks = field(default_factory=FlowChecks)
    _known: dict[str, _Known] = field(default_factory=dict)
    _bytes: int = 0

    def read(self, file: FoundFile) -> FileContents:
        """Return what a file contains; read it again only if it has changed."""
        stamp = file.stamp
        known = self._known.get(file.path)
        if known is not None and known.stamp == stamp:
            return known.contents
        now = time.time_ns()
        contents = read_file(file.path, self.checks)
        self._known.pop(file.path, None)
        if stamp is not None and stamp.is_settled(now):
            self._bytes += stamp.size
            if self._bytes > _MAX_BYTES:
                self._known.clear()
                self._bytes = stamp.size
            # The source is several times as large as what remains of it, and rarely needed again.
            self._known[file.path] = _Known(stamp, replace(contents, document=None))
        return contents

    def check(self, contents: FileContents, catalog: Catalog, definitions: StepDefinitions) -> LoadedFile:
        """Return the checked file; check it again only if it has changed, or what it uses of other files.

        Args:
            contents: what ``read`` returned.
            catalog: what all files define for each other.
            definitions: what steps can inherit.
        """
        known = self._known.get(contents.file)
        dependencies = catalog.dependencies(contents)
        if known is not None and known.loaded is not None and known.dependencies == dependencies:
            return known.loaded
        if contents.document is None and contents.is_readable:
            contents = replace(read_file(contents.file, self.checks), artifacts=contents.artifacts)
        loaded = check_file(contents, catalog, definitions, self.checks)
        if known is not None:
            known.loaded, known.dependencies = loaded, dependencies
        return loaded
