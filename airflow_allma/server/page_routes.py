"""The pages' own files: modules, styles and libraries. They have no data, so anybody may load them."""

from __future__ import annotations

import mimetypes
import sysconfig
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, JSONResponse

from airflow_allma import __version__

__all__ = ["STATIC_ROOT", "page_router"]

STATIC_ROOT: Final = Path(__file__).parent / "static" / "ui"

_PAGE: Final = STATIC_ROOT / "page.html"
_VERSION_MARK: Final = b"{version}"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_CHECKED: Final = "no-cache"
_HEADERS: Final = {"X-Content-Type-Options": "nosniff"}
_PAGE_HEADERS: Final = {
    **_HEADERS,
    "Cache-Control": _CHECKED,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'none'",
}


def page_router() -> APIRouter:
    """Return the routes of files. A file's address has the version, so that browsers keep it for ever."""
    router = APIRouter()

    @router.get("/static/{version}/{path:path}")
    def static(version: str, path: str) -> Response:
        file = _files().get(path)
        if file is None:
            return JSONResponse({"detail": f"There is no file {path!r:.200}."}, HTTPStatus.NOT_FOUND)
        # During an upgrade pages of one version can ask a server of another one.
        is_fixed = version == __version__ and _is_installed()
        headers = {**_HEADERS, "Cache-Control": _FOR_EVER if is_fixed else _CHECKED}
        return FileResponse(file, media_type=_type_of(file), headers=headers)

    @router.get("/ui")
    def page() -> Response:
        if not _PAGE.is_file():
            return JSONResponse({"detail": "This installation has no pages."}, HTTPStatus.NOT_FOUND)
        content = _PAGE.read_bytes().replace(_VERSION_MARK, __version__.encode())
        return Response(content, media_type="text/html", headers=_PAGE_HEADERS)

    return router


def _files() -> dict[str, Path]:
    return _installed_files() if _is_installed() else _found_files()


@cache
def _installed_files() -> dict[str, Path]:
    return _found_files()


def _found_files() -> dict[str, Path]:
    """Return the files by their path below the root: only these are served, whatever a path says."""
    found = (file for file in STATIC_ROOT.rglob("*") if file.is_file())
    return {file.relative_to(STATIC_ROOT).as_posix(): file for file in found}


@cache
def _is_installed() -> bool:
    """Return whether the package's files stay as they are: those of an editable installation change."""
    roots = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return any(Path(__file__).resolve().is_relative_to(root) for root in roots)


def _type_of(file: Path) -> str:
    return _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "text/plain"
