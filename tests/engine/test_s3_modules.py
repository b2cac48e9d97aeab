from __future__ import annotations

import base64
import gzip

import msgspec
import pytest

from airflow_allma.common.base64_text import to_base64
from airflow_allma.engine.modules import ModuleContext, run_module
from airflow_allma.exceptions import (
    ObjectNotFoundError,
    PermanentStepError,
    StorageUnavailableError,
    TransientStepError,
)
from airflow_allma.storage import LocalStore, MemoryStore, Pointer, S3Store
from tests.support.moto import EndpointClients

BUCKET = "module-bucket"


@pytest.fixture(params=["memory", "local", "s3"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "local":
        (tmp_path / BUCKET).mkdir()
        yield LocalStore(tmp_path)
        return
    clients = EndpointClients(request.getfixturevalue("moto_endpoint"))
    client = clients.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield S3Store(clients)
    _remove_bucket(client)


def _remove_bucket(client):
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


def run(store, name, **inputs):
    return run_module(f"system/{name}", inputs, ModuleContext(store=store))


def load(store, key, **inputs):
    return run(store, "s3-data-loader", sourceS3Uri=f"s3://{BUCKET}/{key}", **inputs)


def save(store, key, content, **inputs):
    return run(
        store,
        "s3-data-saver",
        destinationS3UriTemplate=f"s3://{BUCKET}/{key}",
        contentToSave=content,
        **inputs,
    )


@pytest.mark.parametrize(
    ("data", "inputs", "content"),
    [
        (b"caf\xc3\xa9", {}, "café"),
        (b"caf\xe9", {"encoding": "latin1"}, "café"),
        (b"a\x00", {"encoding": "utf16le"}, "a"),
        (b"\xff\x00", {"encoding": "hex"}, "ff00"),
        (b"\xff\xfe", {"encoding": "base64"}, "//4="),
        (b"\xff\xfe", {"encoding": "base64url"}, "__4"),
        (b'{"big": 12345678901234567890}', {"outputFormat": "JSON"}, {"big": 12345678901234567890}),
        (b"\xef\xbb\xbf[1]", {"outputFormat": "JSON"}, [1]),
        (b"\xff\x00", {"outputFormat": "RAW_BUFFER", "onMissing": "IGNORE"}, "/wA="),
        (b"", {}, ""),
        (gzip.compress(b"caf\xc3\xa9"), {}, "café"),
        (gzip.compress(b"[1]") + gzip.compress(b""), {"outputFormat": "JSON"}, [1]),
        (gzip.compress(b"caf\xe9"), {"encoding": "latin1", "outputFormat": "TEXT"}, "café"),
        (
            gzip.compress(b"x", mtime=0),
            {"outputFormat": "RAW_BUFFER"},
            to_base64(gzip.compress(b"x", mtime=0)),
        ),
        (gzip.compress(b"x", mtime=0), {"encoding": "hex"}, gzip.compress(b"x", mtime=0).hex()),
        (b'{"a": "\\ud83d"}', {"outputFormat": "JSON"}, {"a": "\ufffd"}),
    ],
)
def test_an_object_is_loaded_in_the_requested_format(store, data, inputs, content):
    pointer = Pointer(BUCKET, "in/x y+ü.txt")
    written = store.write(pointer, data, content_type="text/plain")
    loaded = load(store, "in/x y+ü.txt", **inputs)
    assert loaded["content"] == content
    assert loaded["_meta"] == {
        "found": True,
        "sourceS3Uri": pointer.uri,
        "contentType": "text/plain",
        "contentLength": len(data),
        "eTag": written.etag,
    }


def test_a_missing_object_is_an_error_that_names_it_or_null(store):
    with pytest.raises(PermanentStepError, match=f"(?s){BUCKET}.*nowhere") as caught:
        load(store, "nowhere.json")
    assert store.description.removeprefix("S3 through ") in caught.value.message
    missing = load(store, "nowhere.json", onMissing="IGNORE")
    assert missing["content"] is None
    assert missing["_meta"]["found"] is False


@pytest.mark.parametrize(
    ("data", "inputs", "message"),
    [
        (b"ok \xe9", {}, r"not utf-8 text: byte 3 is 0xe9"),
        (b"{oops", {"outputFormat": "JSON"}, "is not valid JSON"),
        (b'{"a":1}\n{"a":2}\n', {"outputFormat": "JSON"}, "To read JSON Lines, use a fork"),
        (b"[" * 100_000, {"outputFormat": "JSON"}, "is not valid JSON"),
        (b"[" * 1500 + b"]" * 1500, {"outputFormat": "JSON"}, "it is nested too deeply"),
        (b"[1e400]", {"outputFormat": "JSON"}, "the number 1e400 is out of range"),
        (gzip.compress(b"x" * 100)[:-4], {}, "is not valid gzip: it is cut off"),
        (gzip.compress(b"x" * (65 << 20)), {}, "is gzip that unpacks to more; the limit is 67108864 bytes"),
        (
            b"x" * ((64 << 20) + 1),
            {"outputFormat": "RAW_BUFFER"},
            "has 67108865 bytes; the limit is 67108864",
        ),
    ],
)
def test_content_that_does_not_match_its_format_is_an_error_that_names_the_object(data, inputs, message):
    store = MemoryStore()
    store.write(Pointer(BUCKET, "odd"), data)
    with pytest.raises(PermanentStepError, match=message) as caught:
        load(store, "odd", **inputs)
    assert f"s3://{BUCKET}/odd" in caught.value.message


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"sourceS3Uri": "https://x/y"}, r"\$\.sourceS3Uri"),
        ({"sourceS3Uri": "s3://only-bucket"}, r"\$\.sourceS3Uri"),
        ({"sourceS3Uri": "s3://b/k", "encoding": "zip"}, r"\$\.encoding"),
        ({"sourceS3Uri": "s3://b/k", "encoding": "klingon"}, r"\$\.encoding"),
        ({"sourceS3Uri": "s3://b/k", "outputFormat": "YAML"}, r"\$\.outputFormat"),
    ],
)
def test_an_invalid_loader_input_is_rejected(inputs, path):
    with pytest.raises(PermanentStepError, match=path):
        run(MemoryStore(), "s3-data-loader", **inputs)


def test_the_region_is_passed_to_the_store(moto_endpoint):
    clients = EndpointClients(moto_endpoint)
    with pytest.raises(PermanentStepError):
        run(S3Store(clients), "s3-data-loader", sourceS3Uri="s3://no-such/k", region="us-west-2")
    assert ("s3", "us-west-2") in clients.made


def test_files_are_listed_without_folder_markers(store):
    for key in ("in/a.json", "in/b.json", "in/c.json", "out/d.json"):
        store.write(Pointer(BUCKET, key), key.encode())
    if not isinstance(store, LocalStore):
        store.write(Pointer(BUCKET, "in/"), b"")
    store.write(Pointer(BUCKET, "in/aa.json"), b"")
    listed = run(store, "s3-list-files", bucket=BUCKET, prefix="in/")
    assert listed["fileCount"] == 3
    first = listed["files"][0]
    info = store.head(Pointer(BUCKET, "in/a.json"))
    assert first.pop("lastModified").endswith("Z")
    assert first == {
        "key": "in/a.json",
        "size": 9,
        "eTag": info.etag,
        "bucket": BUCKET,
        "content": {"_s3_output_pointer": {"bucket": BUCKET, "key": "in/a.json"}},
    }
    two = run(store, "s3-list-files", bucket=BUCKET, prefix="in/", maxKeys=2)
    assert [file["key"] for file in two["files"]] == ["in/a.json", "in/b.json"]
    assert run(store, "s3-list-files", bucket=BUCKET, prefix="none/") == {"files": [], "fileCount": 0}


def test_the_error_of_listing_a_missing_bucket_names_it(store):
    with pytest.raises(PermanentStepError, match="not-there"):
        run(store, "s3-list-files", bucket="not-there")


@pytest.mark.parametrize(
    ("content", "inputs", "data", "content_type"),
    [
        ({"a": [1, {}]}, {}, b'{\n  "a": [\n    1,\n    {}\n  ]\n}', "application/json"),
        (None, {}, b"null", "application/json"),
        (3.5, {}, b"3.5", "application/json"),
        ("é {}", {}, "é {}".encode(), "text/plain"),
        ("plain", {"contentType": "application/json; charset=utf-8"}, b"plain", None),
        ("<a/>", {"contentType": "application/xhtml+xml"}, b"<a/>", None),
        ("a,b", {"contentType": "text/csv"}, b"a,b", None),
        (base64.b64encode(b"\xff\x00\xfb").decode(), {"contentType": "image/png"}, b"\xff\x00\xfb", None),
        ("_w D7\n", {"contentType": "image/png"}, b"\xff\x00\xfb", None),
        ({"a": 1}, {"contentType": "application/x-thing"}, b'{\n  "a": 1\n}', None),
    ],
)
def test_content_is_saved_by_its_python_and_content_type(store, content, inputs, data, content_type):
    saved = save(store, "out/o.bin", content, **inputs)
    pointer = Pointer(BUCKET, "out/o.bin")
    info = store.head(pointer)
    assert store.read(pointer) == data
    meta = saved.pop("_meta")
    assert saved == {"s3Uri": pointer.uri, "bucket": BUCKET, "key": "out/o.bin", "eTag": info.etag}
    assert meta["status"] == "SUCCESS"
    if not isinstance(store, LocalStore):
        assert info.content_type == (content_type or inputs["contentType"])


def test_the_output_has_the_version_if_the_bucket_is_versioned(moto_endpoint, request):
    clients = EndpointClients(moto_endpoint)
    client = clients.client("s3")
    client.create_bucket(
        Bucket="versioned-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    client.put_bucket_versioning(Bucket="versioned-bucket", VersioningConfiguration={"Status": "Enabled"})
    saved = run(
        S3Store(clients),
        "s3-data-saver",
        destinationS3UriTemplate="s3://versioned-bucket/k",
        contentToSave=1,
    )
    assert saved["versionId"] == client.head_object(Bucket="versioned-bucket", Key="k")["VersionId"]


def test_metadata_values_become_strings():
    store = MemoryStore()
    save(store, "k", 1, metadataTemplate={"Run-Id": 7.0, "ok": True, "o": {"a": 1}, "gone": None})
    assert store.head(Pointer(BUCKET, "k")).metadata == {"Run-Id": "7", "ok": "true", "o": '{"a":1}'}


@pytest.mark.parametrize(
    ("content", "inputs", "message"),
    [
        ("a: b", {"contentType": "application/yaml"}, "must be Base64"),
        ("A", {"contentType": "image/png"}, "must be Base64"),
        ("\ud800", {}, "broken Unicode at character 0"),
        (1, {"metadataTemplate": {"a b": "x"}}, "'a b' is not a valid metadata key"),
        (1, {"metadataTemplate": {"a": "x\r\ny"}}, "line breaks"),
        (1, {"metadataTemplate": {"a": "ü"}}, "non-ASCII"),
    ],
)
def test_invalid_content_or_metadata_is_rejected_before_anything_is_written(content, inputs, message):
    store = MemoryStore()
    with pytest.raises(PermanentStepError, match=message):
        save(store, "k", content, **inputs)
    with pytest.raises(ObjectNotFoundError):
        store.head(Pointer(BUCKET, "k"))


def test_content_to_save_is_required():
    with pytest.raises(PermanentStepError, match=r"\$\.contentToSave: is missing"):
        run(MemoryStore(), "s3-data-saver", destinationS3UriTemplate="s3://b/k")


class _BusyStore(MemoryStore):
    def head(self, pointer):
        raise StorageUnavailableError(f"{pointer}: busy")

    def list(self, bucket, prefix="", limit=None):
        raise StorageUnavailableError(f"{bucket}: busy")

    def write(self, pointer, data, *, content_type="", metadata=None):
        raise StorageUnavailableError(f"{pointer}: busy")


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("s3-data-loader", {"sourceS3Uri": "s3://b/k", "onMissing": "IGNORE"}),
        ("s3-list-files", {"bucket": "b"}),
        ("s3-data-saver", {"destinationS3UriTemplate": "s3://b/k", "contentToSave": 1}),
    ],
)
def test_an_unavailable_store_is_a_transient_error(name, inputs):
    with pytest.raises(TransientStepError, match="busy"):
        run(_BusyStore(), name, **inputs)


def test_saved_json_can_be_loaded_again(store):
    value = {"n": [1, 2.5, None, "é", 2**70]}
    save(store, "round.json", value)
    assert load(store, "round.json", outputFormat="JSON")["content"] == value
    assert msgspec.json.decode(load(store, "round.json")["content"]) == value
