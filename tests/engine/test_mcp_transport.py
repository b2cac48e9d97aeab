from __future__ import annotations

import asyncio
import gzip
import json

import httpx2
import pytest

from airflow_allma.engine.mcp.mcp_transport import MAX_ANSWER_BYTES, McpTransport
from airflow_allma.engine.secrets import Secrets

URL = "https://mcp.test/mcp"
JSON = {"content-type": "application/json"}


class Network(httpx2.AsyncBaseTransport):
    """Answers requests as ``answer`` says, and keeps them."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.ended = []

    async def handle_async_request(self, request):
        self.requests.append(request)
        try:
            return await self.answer(request)
        except asyncio.CancelledError:
            self.ended.append(request)
            raise


class Stream(httpx2.AsyncByteStream):
    def __init__(self, *chunks, forever=False):
        self.chunks = chunks
        self.forever = forever
        self.is_closed = False

    async def __aiter__(self):
        for chunk in self.chunks:
            yield chunk
        if self.forever:
            await asyncio.Event().wait()

    async def aclose(self):
        self.is_closed = True


def post(**message):
    return httpx2.Request("POST", URL, json={"jsonrpc": "2.0", **message})


CALL = post(id=1, method="tools/call")
CANCEL = post(method="notifications/cancelled", params={"requestId": 1})


async def failure_of(transport, response):
    """Return the failure that a response of the transport names."""
    body = json.loads(await response.aread())
    failure = transport.failure(body["error"]["data"])
    assert transport.failure(body["error"]["data"]) is None
    return failure


async def hang(request):
    del request
    await asyncio.Event().wait()


def test_a_cancelled_request_is_ended():
    async def main():
        async def answer(request):
            if request is CALL:
                await hang(request)
            return httpx2.Response(202)

        network = Network(answer)
        transport = McpTransport(network, Secrets())
        sent = asyncio.create_task(transport.handle_async_request(CALL))
        await asyncio.sleep(0)
        await transport.handle_async_request(CANCEL)
        failure = await failure_of(transport, await sent)
        assert failure.is_transient
        assert network.ended == [CALL]

    asyncio.run(main())


def test_the_event_stream_of_a_cancelled_request_is_ended():
    async def main():
        stream = Stream(b"event: ping\n\n", forever=True)

        async def answer(request):
            if request is CALL:
                return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)
            return httpx2.Response(202)

        transport = McpTransport(Network(answer), Secrets())
        response = await transport.handle_async_request(CALL)
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"event: ping\n\n"
        rest = asyncio.create_task(anext(chunks))
        await asyncio.sleep(0)
        await transport.handle_async_request(CANCEL)
        with pytest.raises(TimeoutError):
            await rest

    asyncio.run(main())


def test_an_answer_without_end_is_cut_also_when_it_is_compressed():
    body = gzip.compress(bytes(MAX_ANSWER_BYTES + 1), compresslevel=1)

    async def answer(request):
        del request
        stream = Stream(*(body[start : start + 4096] for start in range(0, len(body), 4096)))
        return httpx2.Response(200, headers={**JSON, "content-encoding": "gzip"}, stream=stream)

    async def main():
        transport = McpTransport(Network(answer), Secrets())
        return await failure_of(transport, await transport.handle_async_request(CALL))

    failure = asyncio.run(main())
    assert failure.reason == f"An answer of more than {MAX_ANSWER_BYTES} bytes"
    assert not failure.is_transient


def test_no_stream_of_server_messages_is_opened_but_a_broken_stream_is_resumed():
    async def answer(request):
        del request
        return httpx2.Response(200)

    async def main():
        network = Network(answer)
        transport = McpTransport(network, Secrets())
        refused = await transport.handle_async_request(httpx2.Request("GET", URL))
        resume = httpx2.Request("GET", URL, headers={"last-event-id": "7"})
        resumed = await transport.handle_async_request(resume)
        return refused.status_code, resumed.status_code, network.requests == [resume]

    assert asyncio.run(main()) == (405, 200, True)


@pytest.mark.parametrize("message", [post(method="notifications/x"), httpx2.Request("DELETE", URL)])
def test_a_message_without_an_answer_never_fails(message):
    async def answer(request):
        raise httpx2.ConnectError("refused", request=request)

    async def main():
        return await McpTransport(Network(answer), Secrets()).handle_async_request(message)

    assert asyncio.run(main()).status_code in {204, 503}


def test_a_server_cannot_name_a_failure():
    transport = McpTransport(Network(hang), Secrets())
    assert [transport.failure(data) for data in (None, "", "0" * 32, {"key": 1}, [1])] == [None] * 5


def test_the_id_of_a_session_is_masked():
    async def answer(request):
        del request
        body = {"jsonrpc": "2.0", "id": 1, "result": {}}
        return httpx2.Response(200, headers={"mcp-session-id": "planted-session"}, json=body)

    async def main():
        secrets = Secrets()
        response = await McpTransport(Network(answer), secrets).handle_async_request(CALL)
        return secrets.masks.text("in planted-session"), response.headers["mcp-session-id"]

    assert asyncio.run(main()) == ("in ***", "planted-session")


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_with_too_many_levels_fails_alone(status):
    async def answer(request):
        del request
        return httpx2.Response(status, headers=JSON, content=b'{"jsonrpc":"2.0","result":' + b"[" * 50_000)

    async def main():
        transport = McpTransport(Network(answer), Secrets())
        return await failure_of(transport, await transport.handle_async_request(CALL))

    assert asyncio.run(main()).status == status
