from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_allma import storage


def test_every_public_name_is_there():
    assert all(getattr(storage, name) is not None for name in storage.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = storage.nothing


def test_importing_the_package_imports_neither_botocore_nor_airflow():
    program = "import sys, airflow_allma.storage; print({'botocore', 'boto3', 'airflow'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"
