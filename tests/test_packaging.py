"""What the build adds to the package's metadata."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement

import airflow_allma


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def build(repository):
    spec = importlib.util.spec_from_file_location("hatch_build", repository / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_is_written_once(project, repository):
    assert "version" in project["dynamic"]
    changes = (repository / "CHANGELOG.md").read_text()
    versions = [name for name in re.findall(r"^## (\S+)", changes, re.MULTILINE) if name != "Unreleased"]
    assert versions[0] == airflow_allma.__version__


def test_without_an_address_the_readme_stays_as_it_is(build):
    text = "[a](docs/a.md) [b](https://example.com)"
    assert build.absolute_links(text, "") == text
    assert build.project_urls("") == {}


def test_with_an_address_relative_links_of_the_readme_become_absolute(build, repository):
    url = "https://code.example/allma"
    text = "[a](docs/a.md#b) ![c](docs/c.png) [d](https://example.com) [e](#e) [f](mailto:f@example.com)"
    assert build.absolute_links(text, url) == (
        f"[a]({url}/blob/main/docs/a.md#b) ![c]({url}/blob/main/docs/c.png) "
        "[d](https://example.com) [e](#e) [f](mailto:f@example.com)"
    )
    readme = build.absolute_links((repository / "README.md").read_text(), url)
    assert [
        link for link in re.findall(r"\]\(([^)]+)\)", readme) if not link.startswith(("https://", "#"))
    ] == []
    assert all(link.startswith(url) for link in build.project_urls(url).values())


def test_airflow_has_an_upper_bound_and_the_newest_job_lifts_it(project, repository):
    (bound,) = (
        one.specifier for one in map(Requirement, project["dependencies"]) if one.name == "apache-airflow"
    )
    assert bound.contains("3.3.2")
    assert not bound.contains("3.4.0")
    (lifted,) = map(Requirement, (repository / ".ci/newest-airflow.txt").read_text().split("\n", 1)[0:1])
    assert lifted.name == "apache-airflow"
    assert lifted.specifier.contains("4.0")
    assert not lifted.specifier.contains("3.2.9")


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as opened:
        yield opened


def test_the_wheel_has_every_file_of_the_pages_and_the_licenses_of_their_libraries(wheel, repository):
    root = "airflow_allma/server/static/"
    packed = {name.removeprefix(root) for name in wheel.namelist() if name.startswith(root)}
    files = (repository / root).rglob("*")
    assert packed == {file.relative_to(repository / root).as_posix() for file in files if file.is_file()}
    assert {"ui/vendor/VERSIONS", "ui/vendor/htm.LICENSE", "ui/vendor/preact.LICENSE"} <= packed


def test_no_file_of_the_pages_names_another_host(wheel):
    for name in wheel.namelist():
        # What an example in a comment or a licence names is not asked for.
        if name.startswith("airflow_allma/server/static/") and not name.endswith((".LICENSE", "VERSIONS")):
            text = wheel.read(name).decode()
            hosts = set(re.findall(r"(?:https?:)?//([a-z0-9-]+\.[a-z0-9.-]+)", text))
            assert hosts <= {"www.w3.org"}, name  # the names of SVG and MathML, which nobody fetches
