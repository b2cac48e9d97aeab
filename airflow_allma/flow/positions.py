"""Positions in the files of a load, whichever of them has a mistake."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path as FilePath

from airflow_allma.flow.diagnostics import Path
from airflow_allma.flow.documents import Document, UnreadableDocumentError, read_document

__all__ = ["Positions"]


class Positions:
    """Locates values in files; a file that is not in memory is read again.

    Args:
        documents: files in memory.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents: dict[str, Document | None] = {document.file: document for document in documents}

    def find(self, file: str, path: Path, *, at_key: bool = False) -> tuple[int, int]:
        """Return line and column of a value or its key; (0, 0) if the file cannot be read any more."""
        if file not in self._documents:
            try:
                self._documents[file] = read_document(FilePath(file), file)
            except UnreadableDocumentError:
                self._documents[file] = None
        document = self._documents[file]
        return (0, 0) if document is None else document.position(path, at_key=at_key)
