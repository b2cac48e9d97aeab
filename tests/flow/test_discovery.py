"""Which files below a folder are looked at."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from airflow_allma.flow import Severity, Stamp, find_files, found_file

FLOW = '{"id": "f", "startStepInstanceId": "a", "steps": {"a": {"stepType": "NO_OP"}}}'


def put(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(FLOW)


def names(folder, found):
    return [os.path.relpath(file.path, folder) for file in found.files]


def test_links_to_folders_are_followed(tmp_path):
    put(tmp_path, "elsewhere/a.json", "flows/b.json")
    (tmp_path / "flows/team").symlink_to(tmp_path / "elsewhere")
    found = find_files(tmp_path / "flows")
    assert names(tmp_path / "flows", found) == ["b.json", "team/a.json"]
    assert found.problems == ()


@pytest.mark.parametrize("target", [".", "..", "deep"])
def test_a_link_to_a_folder_that_was_searched_is_not_followed_but_reported(tmp_path, target):
    put(tmp_path, "flows/a.json", "flows/deep/b.json")
    (tmp_path / "flows/deep/loop").symlink_to((tmp_path / "flows" / target).resolve())
    (tmp_path / "flows/up").symlink_to(tmp_path / "flows")
    found = find_files(tmp_path)
    assert names(tmp_path, found) == ["flows/a.json", "flows/deep/b.json"]
    assert {problem.file for problem in found.problems} == {
        str(tmp_path / "flows/deep/loop"),
        str(tmp_path / "flows/up"),
    }
    assert {problem.severity for problem in found.problems} == {Severity.WARNING}
    assert all("remove the link" in problem.message for problem in found.problems)


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "self.json").symlink_to(tmp_path / "self.json")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert names(tmp_path, find_files(tmp_path)) == ["self.json"]


def test_folders_may_be_nested_deeper_than_the_stack(tmp_path):
    where = tmp_path
    for _ in range(sys.getrecursionlimit() // 20):
        where = where / "d"
        where.mkdir()
    put(where, "a.json")
    assert len(find_files(tmp_path).files) == 1


def test_a_missing_folder_is_an_error(tmp_path):
    (problem,) = find_files(tmp_path / "gone").problems
    assert problem.is_error
    assert problem.file == str(tmp_path / "gone")
    assert "cannot be read: No such file or directory" in problem.message


def test_a_folder_without_permission_is_an_error_and_does_not_hide_others(tmp_path):
    put(tmp_path, "locked/a.json", "open/b.json")
    # Who may not read the one folder must be able to enter those around it.
    of_pytest = (one for one in tmp_path.parents if one.name.startswith(("pytest-", "popen-")))
    for folder in (tmp_path, *of_pytest):
        folder.chmod(0o755)
    (tmp_path / "locked").chmod(0)
    program = (
        "import os, sys; sys.path[:] = [p for p in sys.path if p];"
        "from airflow_allma.flow import find_files;"
        "os.geteuid() or os.setuid(65534);"
        f"found = find_files({str(tmp_path)!r});"
        "print([f.path for f in found.files], [str(p) for p in found.problems])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (tmp_path / "locked").chmod(0o755)
    assert f"['{tmp_path}/open/b.json']" in ran.stdout
    assert f"{tmp_path}/locked: error: $: this folder cannot be read: Permission denied" in ran.stdout


def test_any_change_of_a_file_changes_its_stamp_even_if_its_time_is_set_back(tmp_path):
    put(tmp_path, "a.json")
    file = tmp_path / "a.json"
    before = file.stat()
    first = found_file(file).stamp
    time.sleep(0.05)
    file.write_text(FLOW.replace("f", "g"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found_file(file).stamp != first


def test_a_file_that_changed_a_moment_ago_is_not_settled():
    second = 10**9
    stamp = Stamp(modified=100 * second, changed=200 * second, size=1, inode=1)
    assert not stamp.is_settled(201 * second)
    assert stamp.is_settled(203 * second)
