"""SQS and DynamoDB that answer every SendMessage and UpdateItem at once, with as little work as possible."""

from __future__ import annotations

import argparse
import asyncio
import json

_BODIES = {
    b"AmazonSQS.SendMessage": json.dumps({"MessageId": "00000000-0000-0000-0000-000000000000"}).encode(),
    b"DynamoDB_20120810.UpdateItem": json.dumps({"Attributes": {"n": {"N": "1"}}}).encode(),
}
_RESPONSES = {
    target: b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amzn-RequestId: r\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    for target, body in _BODIES.items()
}


class _Connection(asyncio.Protocol):
    calls = 0

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
            }
            size = end + 4 + int(headers.get(b"content-length", 0))
            if len(self._received) < size:
                return
            self._received = self._received[size:]
            self._transport.write(self._response(headers))  # type: ignore[attr-defined]

    def _response(self, headers: dict[bytes, bytes]) -> bytes:
        response = _RESPONSES.get(headers.get(b"x-amz-target", b""))
        if response is not None:
            _Connection.calls += 1
            return response
        body = json.dumps({"calls": _Connection.calls}).encode()
        _Connection.calls = 0
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body),
            body,
        )


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
