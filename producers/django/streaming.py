"""A streaming response is made after its view has returned: its events belong to the same request.

Only the cookie that remembers a login comes too late then, so a later request may tell the tracker once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from django.http import FileResponse, HttpResponseBase

from insend_relay.producers.request import Request, serving


def bind_stream(response: HttpResponseBase, request: Request) -> None:
    """Let the request be known while the response's parts are made; a file stays what the server can send by itself."""
    if response.streaming and not isinstance(response, FileResponse):
        bound = _bound_async if response.is_async else _bound
        response.streaming_content = bound(response.streaming_content, request)


def _bound(parts: Iterator[bytes], request: Request) -> Iterator[bytes]:
    while True:
        with serving(request):  # for each part: in between, this thread serves others
            part = next(parts, None)
        if part is None:
            return
        yield part


async def _bound_async(parts: AsyncIterator[bytes], request: Request) -> AsyncIterator[bytes]:
    while True:
        with serving(request):
            part = await anext(parts, None)
        if part is None:
            return
        yield part
