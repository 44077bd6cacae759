"""Streamed chat completions over sockets of their own: cheap enough for many at once beside the
server that answers them."""

import asyncio
import json


async def chunks(address, request):
    """The chunks of one answer. Anything but a whole stream is an AssertionError; whoever stops
    early, with `contextlib.aclosing`, is gone for the server at once."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        body = json.dumps(request | {"stream": True})
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        status = await reader.readline()
        assert b" 200 " in status, status + await reader.read()
        done = False
        while line := await reader.readline():
            if line.startswith(b"data: [DONE]"):
                done = True
            elif line.startswith(b"data: "):
                chunk = json.loads(line[6:])
                assert "error" not in chunk, chunk
                yield chunk
        assert done, "the stream was cut"
    finally:
        writer.transport.abort()


def text_of(chunk):
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
