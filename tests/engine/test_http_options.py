"""TLS options of requests, with a real server whose certificate no one has signed."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from airflow_allma.engine.http_options import HttpOptions
from airflow_allma.exceptions import PermanentStepError
from tests.support.http_server import with_server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the files of a certificate for 127.0.0.1 and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return tuple(map(str, files))


def server_context(certificate, *, asks_for_certificate=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if asks_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate[0])
    return context


def answer_of(certificate, options, *, asks_for_certificate=False):
    async def scenario(server, client):
        response = await client.request(
            "GET", server.url + "/x", headers={}, body=None, timeout=30, options=options
        )
        return response.body

    tls = server_context(certificate, asks_for_certificate=asks_for_certificate)
    return with_server(scenario, tls=tls)


def test_a_certificate_that_nobody_signed_is_not_trusted(certificate):
    with pytest.raises(PermanentStepError, match="certificate is not trusted"):
        answer_of(certificate, HttpOptions())


def test_a_certificate_is_trusted_if_the_connection_names_it_or_asks_for_no_check(certificate):
    assert answer_of(certificate, HttpOptions(verify=certificate[0])) == b"ok"
    assert answer_of(certificate, HttpOptions(verify=False)) == b"ok"


@pytest.mark.parametrize("in_one_file", [False, True])
def test_a_client_shows_its_certificate_to_a_server_that_asks_for_it(certificate, tmp_path, in_one_file):
    cert = certificate
    if in_one_file:
        both = tmp_path / "both.pem"
        both.write_text("".join(Path(file).read_text() for file in certificate))
        cert = (str(both), None)
    options = HttpOptions(verify=certificate[0], cert=cert)
    assert answer_of(certificate, options, asks_for_certificate=True) == b"ok"


@pytest.mark.parametrize("options", [{"verify": "{}/none.pem"}, {"cert": ("{}/none.pem", None)}])
def test_a_file_that_does_not_exist_is_an_error_that_names_it(tmp_path, options):
    options = {
        name: value.format(tmp_path) if isinstance(value, str) else (value[0].format(tmp_path), None)
        for name, value in options.items()
    }
    with pytest.raises(PermanentStepError, match=r"none\.pem.*cannot be used: No such file"):
        HttpOptions(**options).tls()


def test_a_file_that_is_no_certificate_is_an_error(tmp_path):
    (tmp_path / "a.pem").write_text("planted")
    for options in ({"verify": f"{tmp_path}/a.pem"}, {"cert": (f"{tmp_path}/a.pem", None)}):
        with pytest.raises(PermanentStepError, match=r"a\.pem.*must be a PEM file") as caught:
            HttpOptions(**options).tls()
        assert "planted" not in str(caught.value)


def test_a_context_is_made_again_when_its_file_changes(certificate, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_bytes(Path(certificate[0]).read_bytes())
    first = HttpOptions(verify=str(file)).tls()
    assert HttpOptions(verify=str(file)).tls() is first
    os.utime(file, (1, 1))
    assert HttpOptions(verify=str(file)).tls() is not first
