"""The pages' own files: addresses, types, and how long browsers keep them."""

from __future__ import annotations

import pytest

from airflow_allma import __version__
from airflow_allma.server import page_routes

pytestmark = pytest.mark.airflow


@pytest.fixture
def files(tmp_path, monkeypatch, airflow_db):
    """Return a client of the routes over a folder with a few files."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    root = tmp_path / "ui"
    (root / "vendor").mkdir(parents=True)
    (root / "vendor" / "lib.js").write_text("export {}")
    (root / "allma.css").write_text("a {}")
    (root / "page.html").write_text("<script src='static/{version}/a.js'></script>")
    (tmp_path / "secret.js").write_text("secret")
    monkeypatch.setattr(page_routes, "STATIC_ROOT", root)
    monkeypatch.setattr(page_routes, "_PAGE", root / "page.html")
    app = FastAPI()
    app.include_router(page_routes.page_router())
    return TestClient(app)


@pytest.mark.parametrize(
    ("path", "media_type"), [("vendor/lib.js", "text/javascript"), ("allma.css", "text/css")]
)
def test_files_have_their_type(files, path, media_type):
    answer = files.get(f"/static/{__version__}/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("installed", "version", "kept"),
    [(True, __version__, True), (True, "0.0.1", False), (False, __version__, False)],
)
def test_browsers_keep_only_files_that_never_change(files, monkeypatch, installed, version, kept):
    monkeypatch.setattr(page_routes, "_is_installed", lambda: installed)
    page_routes._installed_files.cache_clear()
    answer = files.get(f"/static/{version}/allma.css")
    assert ("immutable" in answer.headers["cache-control"]) is kept
    page_routes._installed_files.cache_clear()


@pytest.mark.parametrize(
    "path", ["../secret.js", "..%2fsecret.js", "vendor/%2e%2e/%2e%2e/secret.js", "vendor", ""]
)
def test_only_the_files_of_the_folder_are_served(files, path):
    answer = files.get(f"/static/{__version__}/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text.replace("secret.js", "")


def test_the_page_names_files_of_its_own_version_and_allows_no_others(files):
    page = files.get("/ui")
    assert f"static/{__version__}/a.js" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
