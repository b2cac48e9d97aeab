from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from airflow_allma.engine import EngineSettings
from airflow_allma.engine.http import AiohttpClient
from airflow_allma.exceptions import ObjectAccessDeniedError
from airflow_allma.storage import LocalStore, MemoryStore, Pointer, S3Store
from airflow_allma.storage.keys import OffloadLocation
from tests.support.download_server import BLOCK, TEXT, wait_until
from tests.support.engine import fork, run, then
from tests.support.moto import EndpointClients

BUCKET = "downloads-bucket"
MIB = 1 << 20


@pytest.fixture
def client(moto_endpoint):
    client = EndpointClients(moto_endpoint).client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def s3(moto_endpoint, client):
    del client
    return S3Store(EndpointClients(moto_endpoint))


@pytest.fixture
def memory():
    return MemoryStore()


def download(url, **fields):
    return {"stepType": "FILE_DOWNLOAD", "sourceUrlTemplate": url, "destinationBucket": BUCKET, **fields}


def fetch(server, path, store, payload=None, *, settings=None, **fields):
    """Download a file of the server in a flow of one step."""
    step = download(f"{server.url}/{path}", **{"destinationKeyTemplate": "the/file.bin", **fields})
    return run(
        {"get": step},
        payload,
        store=store,
        http=AiohttpClient(),
        settings=settings or EngineSettings(),
    )


def test_a_file_is_streamed_into_an_object_with_its_type_and_origin(downloads, s3, client):
    ran = fetch(
        downloads,
        "text/{{report.id}}.csv?token=hidden&page=2",
        s3,
        {"report": {"id": "7 a"}},
        destinationKeyTemplate="in/{{report.id}}.csv",
        outputMappings={
            "$.file": "$.filePointer",
            "$.all": "$",
            "$.status": "$._meta.status",
            "$.url": "$._meta.sourceUrl",
        },
    )
    assert ran.status == "COMPLETED", ran.error
    pointer = {"bucket": BUCKET, "key": "in/7 a.csv"}
    assert ran.context["file"] == pointer
    assert ran.context["all"] == {
        "filePointer": pointer,
        "content": {"_s3_output_pointer": pointer},
        "contentType": "text/csv; charset=utf-8",
        "contentLength": len(TEXT),
    }
    assert ran.context["status"] == 200
    assert ran.context["url"] == f"{downloads.url}/text/7%20a.csv?token=***&page=2"
    stored = client.get_object(Bucket=BUCKET, Key="in/7 a.csv")
    assert stored["Body"].read() == TEXT
    assert stored["ContentType"] == "text/csv; charset=utf-8"
    assert stored["Metadata"] == {"sourceurl": ran.context["url"], "originalname": "7 a.csv"}
    (line,) = ran.fakes.record("get").calls.lines()
    assert line.startswith(f"200 from GET {ran.context['url']} in ")
    assert line.endswith(f"0 bytes sent, {len(TEXT)} received")


def test_the_content_pointer_is_copied_and_loaded_by_whoever_reads_through_it(downloads, memory):
    steps = {
        "get": download(f"{downloads.url}/text", outputMappings={"$.doc": "$.content"}, **then("read")),
        "read": {"stepType": "NO_OP", "literals": {"text": "{{doc}}"}},
    }
    ran = run(steps, store=memory, http=AiohttpClient())
    assert ran.context["doc"]["_s3_output_pointer"]["bucket"] == BUCKET
    assert ran.outputs["read"]["text"] == TEXT.decode()


def test_headers_are_paths_or_templates_and_ask_for_the_bytes_themselves(downloads, memory):
    headers = {"X-Token": "$.auth.token", "X-Text": "n {{n}}", "X-None": "$.missing", "Accept": "text/csv"}
    ran = fetch(downloads, "text", memory, {"auth": {"token": "t"}, "n": 1}, headersTemplate=headers)
    assert ran.status == "COMPLETED"
    sent = downloads.requests[0][2]
    assert (sent["X-Token"], sent["X-Text"], sent["Accept"]) == ("t", "n 1", "text/csv")
    assert sent["Accept-Encoding"] == "identity"
    assert "X-None" not in sent


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_the_method_is_sent_without_a_body(downloads, memory, method):
    ran = fetch(downloads, "text", memory, method=method)
    assert ran.status == "COMPLETED"
    assert downloads.requests[0][0] == method
    assert ran.outputs["get"]["contentLength"] == (0 if method == "HEAD" else len(TEXT))


def key_of(ran, step="get"):
    return ran.outputs[step]["filePointer"]["key"]


def test_without_a_key_another_try_writes_to_the_same_object_and_another_file_does_not(downloads, memory):
    first = fetch(downloads, "text", memory, destinationKeyTemplate=None)
    again = fetch(downloads, "text", memory, destinationKeyTemplate=None)
    other = fetch(downloads, "text?page=2", memory, destinationKeyTemplate=None)
    assert key_of(first) == key_of(again) != key_of(other)
    folder, _, name = key_of(first).rpartition("/")
    assert folder == "downloads/run-1/get"
    assert len(name) == 36


@pytest.mark.parametrize(
    ("key", "expected"), [(None, "pre/fix/downloads/run-1/get/"), ("scans/{{id}}.pdf", "scans/7.pdf")]
)
def test_without_a_bucket_the_file_goes_to_the_bucket_of_the_offload_location(
    downloads, memory, key, expected
):
    settings = EngineSettings(offload_location=OffloadLocation.parse("s3://offload/pre/fix"))
    ran = fetch(
        downloads,
        "text",
        memory,
        {"id": 7},
        settings=settings,
        destinationBucket=None,
        destinationKeyTemplate=key,
    )
    assert ran.outputs["get"]["filePointer"]["bucket"] == "offload"
    assert key_of(ran).startswith(expected)


@pytest.mark.parametrize("key", [None, "scans/7.pdf"])
def test_in_a_local_offload_location_the_file_is_below_its_folder(downloads, tmp_path, key):
    settings = EngineSettings(offload_location=OffloadLocation.parse(tmp_path.as_uri()))
    ran = fetch(
        downloads,
        "text",
        LocalStore(tmp_path),
        settings=settings,
        destinationBucket=None,
        destinationKeyTemplate=key,
    )
    file = Path("/", key_of(ran))
    assert file.is_relative_to(tmp_path)
    assert file.read_bytes() == TEXT


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("status/404", {}, "404 from GET"),
        ("status/403", {}, "403 from GET"),
        ("brotli", {}, "content encoding 'br' cannot be decoded"),
        ("large/1", {"limit": MIB - 1}, r"has 1048576 bytes; \[allma\] max_download_bytes = 1048575"),
        ("endless", {"limit": 2 * MIB}, "is longer; .*max_download_bytes"),
        ("bomb", {"limit": 2 * MIB}, "is longer; .*max_download_bytes"),
        ("text", {"destinationKeyTemplate": "a/{{up}}/b"}, "must not be empty, '.' or '..'"),
        ("text", {"destinationKeyTemplate": "{{missing}}"}, "must not be empty"),
        ("text", {"destinationKeyTemplate": "/a/b"}, "'/a/b' cannot be the key of an object"),
        ("text", {"destinationKeyTemplate": "a\n{{up}}"}, "control characters"),
        ("text", {"destinationBucket": None}, "no destination. Set destinationBucket"),
        ("text", {"customConfig": {"timeoutMs": "soon"}}, "timeoutMs must be a number"),
        ("text", {"customConfig": {"verifySsl": "no"}}, "verifySsl must be true or false"),
        ("text", {"headersTemplate": {"X-A": "$.lines"}}, "line breaks"),
        ("text/{{up}}/x", {}, "leads to another path"),
    ],
)
def test_what_a_retry_cannot_mend_is_permanent_and_leaves_no_object(downloads, memory, path, fields, message):
    limit = fields.pop("limit", 0)
    payload = {"up": "..", "lines": "a\r\nb"}
    ran = fetch(downloads, path, memory, payload, settings=EngineSettings(max_download_bytes=limit), **fields)
    assert ran.error["errorName"] == "PermanentStepError"
    assert re.search(message, ran.error["errorMessage"]), ran.error
    assert memory_keys(memory) == []
    assert ran.fakes.record("get").tries == 1


@pytest.mark.parametrize(("config", "expected"), [({}, [True]), ({"verifySsl": False}, [False])])
def test_the_certificate_is_checked_unless_the_step_says_otherwise(downloads, memory, config, expected):
    class Client(AiohttpClient):
        def __init__(self):
            super().__init__()
            self.verified = []

        def stream(self, method, url, *, options, **more):
            self.verified.append(options.verify)
            return super().stream(method, url, options=options, **more)

    client = Client()
    ran = run(
        {"get": download(f"{downloads.url}/text", destinationKeyTemplate="a.bin", customConfig=config)},
        store=memory,
        http=client,
    )
    assert ran.error is None
    assert client.verified == expected


def memory_keys(memory):
    return [key for _, key in memory._objects]


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("status/429", {}, "429 from GET"),
        ("status/503", {}, "503 from GET"),
        ("stalled", {"customConfig": {"timeoutMs": 100}}, "Nothing received for 0.1 seconds, after 6 bytes"),
        ("broken_chunks", {}, "The body ended after"),
        ("gzip/cut", {}, "gzip body is cut short"),
        ("checksum/md5-wrong", {}, "checksum of its header content-md5"),
        ("checksum/sha-wrong", {}, "checksum of its header repr-digest"),
    ],
)
def test_what_a_retry_can_mend_is_transient_and_leaves_no_object(downloads, memory, path, fields, message):
    ran = fetch(downloads, path, memory, **fields)
    assert ran.error["errorName"] == "TransientStepError"
    assert message in ran.error["errorMessage"]
    assert memory_keys(memory) == []
    assert ran.fakes.record("get").tries == 5


def test_a_server_that_answers_late_is_asked_again(downloads, memory):
    ran = fetch(downloads, "flaky/1", memory)
    assert ran.status == "COMPLETED"
    assert ran.fakes.record("get").tries == 2


@pytest.mark.parametrize("path", ["gzip/whole", "checksum/md5-right", "checksum/sha-right", "moved/text"])
def test_encodings_are_decoded_checksums_compared_and_redirects_followed(downloads, memory, path):
    ran = fetch(downloads, path, memory)
    assert ran.status == "COMPLETED", ran.error
    assert memory.read(Pointer(BUCKET, "the/file.bin")) in {TEXT, TEXT + TEXT}


def test_another_host_gets_no_secret_headers(downloads, memory):
    ran = fetch(
        downloads, "elsewhere/text", memory, headersTemplate={"Authorization": "Bearer x", "X-Plain": "y"}
    )
    assert ran.status == "COMPLETED"
    assert "Authorization" in downloads.requests[0][2]
    assert "Authorization" not in downloads.requests[1][2]
    assert downloads.requests[1][2]["X-Plain"] == "y"


def test_an_empty_file_is_an_empty_object(downloads, memory):
    ran = fetch(downloads, "empty", memory)
    assert ran.outputs["get"]["contentLength"] == 0
    assert memory.read(Pointer(BUCKET, "the/file.bin")) == b""


def uploads(client):
    return client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def test_a_large_file_is_uploaded_in_parts(downloads, s3, client):
    ran = fetch(downloads, "large/20", s3)
    assert ran.status == "COMPLETED", ran.error
    head = client.head_object(Bucket=BUCKET, Key="the/file.bin")
    assert head["ContentLength"] == 20 * MIB
    assert head["ETag"].endswith('-3"')
    assert head["Metadata"]["sourceurl"] == f"{downloads.url}/large/20"
    ranged = client.get_object(Bucket=BUCKET, Key="the/file.bin", Range=f"bytes={19 * MIB}-")["Body"].read()
    assert ranged == BLOCK * 16


def test_a_body_that_is_cut_leaves_no_object_and_no_open_upload(downloads, s3, client):
    ran = fetch(downloads, "cut/20", s3, onError={"retries": {"count": 0}})
    assert ran.error["errorName"] == "TransientStepError"
    assert f"The body ended after {18 * MIB} of {20 * MIB} bytes" in ran.error["errorMessage"]
    assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
    assert uploads(client) == []


def test_a_file_that_stays_as_it_was_if_the_new_download_fails(downloads, s3, client):
    client.put_object(Bucket=BUCKET, Key="the/file.bin", Body=b"before")
    fetch(downloads, "cut/20", s3)
    assert client.get_object(Bucket=BUCKET, Key="the/file.bin")["Body"].read() == b"before"


def test_a_download_that_takes_too_long_is_abandoned_without_a_trace(downloads, s3, client):
    settings = EngineSettings(step_timeout_seconds=1)
    ran = fetch(downloads, "dripping", s3, settings=settings)
    assert ran.error["errorName"] == "StepTimeoutError"
    assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


class SlowStore(MemoryStore):
    """A store whose writers take their time, and count what is done after they have ended."""

    def __init__(self):
        super().__init__()
        self.ended = False
        self.late = 0
        self.is_free = threading.Event()

    def open_writer(self, pointer, **options):
        store, writer = self, super().open_writer(pointer, **options)

        class Slow:
            pointer = writer.pointer
            info = property(lambda _: writer.info)

            def __enter__(self):
                writer.__enter__()
                return self

            def write(self, data):
                store.is_free.wait(2)
                store.late += store.ended
                writer.write(data)

            def __exit__(self, *error):
                store.ended = True
                writer.__exit__(*error)

        return Slow()


def test_an_upload_ends_only_after_the_write_that_was_abandoned(downloads):
    store = SlowStore()
    ran = fetch(downloads, "large/2", store, settings=EngineSettings(step_timeout_seconds=0.3))
    assert ran.error["errorName"] == "StepTimeoutError"
    store.is_free.set()
    assert wait_until(lambda: store.ended)
    assert store.late == 0
    assert memory_keys(store) == []


def test_a_store_that_refuses_is_an_error_that_names_it(downloads, memory):
    class Refusing(MemoryStore):
        def open_writer(self, pointer, **_options):
            raise ObjectAccessDeniedError(f"{pointer}: access is denied")

    ran = fetch(downloads, "text", Refusing())
    assert ran.error["errorName"] == "PermanentStepError"
    assert "access is denied" in ran.error["errorMessage"]


def test_each_item_of_a_fork_has_a_file_of_its_own(downloads, memory):
    steps = {
        "each": fork("get", items="$.names"),
        "get": download(f"{downloads.url}/item/{{{{currentItem}}}}"),
    }
    ran = run(steps, {"names": [f"n{n}" for n in range(40)]}, store=memory, http=AiohttpClient())
    assert ran.status == "COMPLETED", ran.error
    keys = [one["filePointer"]["key"] for one in ran.outputs["each"]["aggregatedData"]]
    assert [memory.read(Pointer(BUCKET, key)).decode() for key in keys] == [f"item n{n}" for n in range(40)]


def test_the_same_url_for_two_items_makes_two_files(downloads, memory):
    steps = {"each": fork("get", items="$.names"), "get": download(f"{downloads.url}/text")}
    ran = run(steps, {"names": ["a", "b"]}, store=memory, http=AiohttpClient())
    assert len({one["filePointer"]["key"] for one in ran.outputs["each"]["aggregatedData"]}) == 2


MEMORY = """
import asyncio, json, resource, sys, threading
from airflow_allma.engine.http import AiohttpClient
from airflow_allma.exceptions import ObjectAccessDeniedError
from airflow_allma.storage import LocalStore, S3Store
from tests.support.engine import run
from tests.support.moto import EndpointClients

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def get(path, key):
    step = {"stepType": "FILE_DOWNLOAD", "sourceUrlTemplate": sys.argv[1] + path,
            "destinationBucket": sys.argv[3], "destinationKeyTemplate": key}
    place = sys.argv[2]
    store = S3Store(EndpointClients(place)) if place.startswith("http") else LocalStore(place)
    return run({"get": step}, store=store, http=AiohttpClient())

assert get("/text", "warm-up").status == "COMPLETED"
idle, peak, done = rss(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, rss())

watcher = threading.Thread(target=watch)
watcher.start()
ran = get("/large/200", "large")
done.set()
watcher.join()
print(json.dumps({"status": ran.status, "error": ran.error, "above": peak - idle}))
"""


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_file_of_200_mebibytes_takes_less_than_64_of_memory(downloads, tmp_path, kind, repository, request):
    store = str(tmp_path)
    if kind == "s3":
        store = request.getfixturevalue("moto_endpoint")
        request.getfixturevalue("client")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), *sys.path])}
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY, downloads.url, store, BUCKET],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    measured = json.loads(ended.stdout.splitlines()[-1])
    assert measured["status"] == "COMPLETED", measured
    assert 0 < measured["above"] < 64 * MIB
