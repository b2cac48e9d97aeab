"""Bodies of responses in content encodings, from a real server on loopback."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from airflow_allma.engine.content_encoding import decode_body
from airflow_allma.engine.http import AiohttpClient
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from tests.support.http_server import get, with_server


def deflated(data, window):
    stream = zlib.compressobj(wbits=window)
    return stream.compress(data) + stream.flush()


PLAIN = b'{"a": [1, 2, 3]}' * 20
GZIPPED = gzip.compress(PLAIN)
ZLIB = deflated(PLAIN, zlib.MAX_WBITS)
RAW = deflated(PLAIN, -zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("encoding", "body", "decoded"),
    [
        ("gzip", GZIPPED, PLAIN),
        ("x-gzip", GZIPPED, PLAIN),
        ("GZip", GZIPPED, PLAIN),
        ("gzip, gzip", gzip.compress(GZIPPED), PLAIN),
        ("deflate, gzip", gzip.compress(ZLIB), PLAIN),
        ("deflate,, identity , x-gzip", gzip.compress(ZLIB), PLAIN),
        ("deflate", ZLIB, PLAIN),
        ("deflate", RAW, PLAIN),
        ("deflate", deflated(b"", -zlib.MAX_WBITS), b""),
        ("identity", PLAIN, PLAIN),
        ("none", PLAIN, PLAIN),
        ("UTF-8", PLAIN, PLAIN),
        ("aws-chunked,gzip", GZIPPED, PLAIN),
        ("gzip", b"", b""),
        ("gzip", GZIPPED + GZIPPED, PLAIN * 2),
        ("gzip", GZIPPED + b"\0" * 100, PLAIN),
        ("gzip", gzip.compress(b""), b""),
    ],
)
def test_a_body_is_decoded_by_all_of_its_content_encodings(encoding, body, decoded):
    async def scenario(server, client):
        server.encoding, server.body = encoding, body
        assert (await get(client, server.url + "/encoded")).body == decoded
        assert server.requests[0][2]["Accept-Encoding"] == "gzip, deflate"

    with_server(scenario)


@pytest.mark.parametrize(
    ("encoding", "body", "kind", "message"),
    [
        (
            "br",
            b"\x0b\x02\x80",
            PermanentStepError,
            "content encoding 'br' cannot be decoded. Send the header",
        ),
        ("zstd", b"\x28\xb5\x2f\xfd", PermanentStepError, "content encoding 'zstd' cannot be decoded"),
        ("compress", b"\x1f\x9d", PermanentStepError, "content encoding 'compress' cannot be decoded"),
        ("gzip, br", GZIPPED, PermanentStepError, "content encoding 'br' cannot be decoded"),
        ("gzip" + ", gzip" * 5, GZIPPED, PermanentStepError, "6 content encodings are more than the 5"),
        ("gzip", PLAIN, PermanentStepError, "The body is not gzip, although its content encoding says so"),
        ("gzip", GZIPPED[:-1], TransientStepError, "The gzip body is cut short"),
        ("gzip", GZIPPED[:5], TransientStepError, "The gzip body is cut short"),
        ("gzip", GZIPPED[:1], TransientStepError, "The gzip body is cut short"),
        ("gzip", GZIPPED + GZIPPED[:20], TransientStepError, "The gzip body is cut short"),
        ("gzip, gzip", gzip.compress(GZIPPED[:-9]), TransientStepError, "The gzip body is cut short"),
        ("x-gzip", GZIPPED[:-8] + b"\0" * 8, TransientStepError, "The gzip body is damaged"),
        ("deflate", ZLIB[:-1], TransientStepError, "The deflate body is cut short"),
        ("deflate", ZLIB[:1], TransientStepError, "The deflate body is cut short"),
        ("deflate", RAW[:-1], TransientStepError, "The deflate body is cut short"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x" * 20_000)), PermanentStepError, "More than 10000"),
        ("deflate", deflated(b"x" * 20_000, zlib.MAX_WBITS), PermanentStepError, "More than 10000 bytes"),
        ("deflate", deflated(b"x" * 20_000, -zlib.MAX_WBITS), PermanentStepError, "More than 10000 bytes"),
    ],
)
def test_a_body_that_cannot_be_decoded_is_an_error_that_says_why(encoding, body, kind, message):
    async def scenario(server, client):
        server.encoding, server.body = encoding, body
        with pytest.raises(kind, match=message) as caught:
            await get(client, server.url + "/encoded?token=hidden")
        assert f"GET {server.url}/encoded?token=***" in caught.value.message
        assert type(caught.value) is kind

    with_server(scenario, AiohttpClient(max_bytes=10_000))


def test_the_status_of_an_error_counts_more_than_a_body_that_cannot_be_decoded():
    async def scenario(server, client):
        server.encoding, server.body, server.status = "br", b"x", 404
        assert (await get(client, server.url + "/encoded")).status == 404
        server.encoding, server.body, server.status = "gzip", gzip.compress(b"why"), 503
        assert (await get(client, server.url + "/encoded")).body == b"why"

    with_server(scenario)


def test_a_large_body_is_decoded_as_a_small_one():
    noise = random.Random(1).randbytes(3 << 20)

    async def scenario(server, client):
        server.encoding, server.body = "gzip", gzip.compress(noise, 1)
        assert (await get(client, server.url + "/encoded")).body == noise
        server.body = server.body[:-1]
        with pytest.raises(TransientStepError, match="cut short"):
            await get(client, server.url + "/encoded")

    with_server(scenario)


def test_gzip_of_very_many_empty_members_is_decoded_in_linear_time():
    # Quadratic in the members, this takes minutes.
    members = gzip.compress(b"") * 500_000
    assert decode_body(members + gzip.compress(b"end"), "gzip", max_bytes=10) == b"end"
