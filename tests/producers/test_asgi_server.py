"""FastAPI and Starlette under a real server: requests that overlap, stream, break off and end; its own end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import django_site  # noqa: F401 - configures Django
import pytest
import redis
import uvicorn
from asgi_server import Answer, Browser, raw, serving
from asgiref.sync import iscoroutinefunction
from fastapi import BackgroundTasks, FastAPI, Request, Response, WebSocket
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, StreamingResponse
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.record import Record
from insend_relay.producers import AsyncInSend, InSend
from insend_relay.producers.asgi import InSendMiddleware, get_insend
from insend_relay.producers.django.shared import AsyncDjangoInSend
from insend_relay.producers.events import Events

Kept = Callable[[str], list[Record]]
AT_ONCE = 25  # below the 40 threads that Starlette gives to plain functions


@pytest.fixture
def ainsend(insend: InSend) -> AsyncInSend:
    """The account's AsyncInSend; each server that uses it closes its connections."""
    return AsyncInSend(settings=insend.settings)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis whose only producer is the test's."""
    with EmbeddedRedis(tmp_path, server="redis", config={"appendfsync": "everysec"}) as server:
        yield server


def customer(connection: HTTPConnection) -> str | None:
    return connection.headers.get("x-customer")


def application(insend: AsyncInSend | InSend, **more: Any) -> FastAPI:
    app = FastAPI(**more)
    app.add_middleware(InSendMiddleware, insend=insend, visitor_uid=customer)
    return app


def told(kept: Kept, lane: str) -> list[tuple[str | None, str | None, str | None]]:
    """Who each event is about, and the title that its handler gave it."""
    found = [json.loads(record.payload) for record in kept(lane)]
    return [(event.get("visitor_uid"), event.get("guest_uid"), event.get("title")) for event in found]


def all_at_once(port: int) -> list[Answer]:
    """That many visits, half of them logged in; each says its number."""

    def visit(number: int) -> Answer:
        headers = {"X_Customer": f"customer-{number}"} if number % 2 else {}
        return Browser(port, convead_guest_uid=f"guest-{number}").get(f"/meet/{number}", **headers)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(visit, range(AT_ONCE)))


def nobody_is_mixed_up(kept: Kept) -> None:
    for number in range(AT_ONCE):
        guest, visitor, title = f"guest-{number}", f"customer-{number}", str(number)
        if number % 2:
            assert told(kept, f"v/{visitor}") == [(visitor, guest, title), (visitor, None, title)]
        else:
            assert told(kept, f"g/{guest}") == [(None, guest, title)] * 2


def test_requests_that_overlap_do_not_mix(ainsend: AsyncInSend, kept: Kept) -> None:
    app = application(ainsend)
    everybody = asyncio.Barrier(AT_ONCE)

    @app.get("/meet/{number}")
    async def meet(number: int) -> None:
        await everybody.wait()
        await ainsend.link(title=str(number))
        await everybody.wait()
        await ainsend.link(title=str(number))
        await everybody.wait()

    with serving(app) as port:
        assert {answer.status for answer in all_at_once(port)} == {200}
    nobody_is_mixed_up(kept)


def test_plain_functions_that_overlap_do_not_mix(insend: InSend, kept: Kept) -> None:
    app = application(insend)
    everybody = threading.Barrier(AT_ONCE, timeout=PATIENCE_SECONDS)

    @app.get("/meet/{number}")
    def meet(number: int) -> None:
        everybody.wait()
        insend.link(title=str(number))
        everybody.wait()
        insend.link(title=str(number))
        everybody.wait()

    with serving(app) as port:
        assert {answer.status for answer in all_at_once(port)} == {200}
    nobody_is_mixed_up(kept)


def test_background_tasks_keep_the_visitor(insend: InSend, ainsend: AsyncInSend, kept: Kept) -> None:
    app = application(ainsend)
    answered = threading.Event()

    async def later() -> None:
        await asyncio.to_thread(answered.wait, PATIENCE_SECONDS)
        await ainsend.link(title="later")

    def in_a_thread() -> None:
        insend.link(title="in a thread")

    @app.get("/")
    async def page(tasks: BackgroundTasks) -> None:
        tasks.add_task(later)
        tasks.add_task(in_a_thread)

    with serving(app) as port:
        answer = Browser(port, convead_guest_uid="g").get("/", X_Customer="42")
        assert answer.set_cookies == []  # the event came too late for the cookie, so both uids go out once more
        answered.set()
    assert told(kept, "v/42") == [("42", "g", "later"), ("42", None, "in a thread")]


def test_a_call_itself_may_be_a_background_task(ainsend: AsyncInSend, kept: Kept) -> None:
    app = application(ainsend)

    @app.get("/")
    async def page(tasks: BackgroundTasks) -> None:
        tasks.add_task(ainsend.link, title="typed")
        tasks.add_task(ainsend.event, "link", title="named")
        tasks.add_task(ainsend, "event", "link", {}, title="pasted")

    with serving(app) as port:
        assert Browser(port, convead_guest_uid="g").get("/").status == 200
    assert [title for _, _, title in told(kept, "g/g")] == ["typed", "named", "pasted"]


@pytest.mark.parametrize("kind", [AsyncInSend, AsyncDjangoInSend])
def test_every_asynchronous_call_says_that_it_is_to_be_awaited(kind: type) -> None:
    names = {"__call__", *(name for name in vars(Events) if not name.startswith("_"))}
    assert names > {"event", "purchase"}
    assert [name for name in names if not iscoroutinefunction(getattr(kind, name))] == []
    assert [name for name in names if iscoroutinefunction(getattr(InSend, name))] == []


def test_a_streamed_answer_keeps_the_visitor(ainsend: AsyncInSend, kept: Kept) -> None:
    app = application(ainsend)

    async def chunks() -> AsyncIterator[str]:
        yield "first "
        yield (await ainsend.link(title="streamed")).where

    @app.get("/")
    async def page() -> Response:
        return StreamingResponse(chunks())

    with serving(app) as port:
        answer = Browser(port, convead_guest_uid="g").get("/", X_Customer="42")
    assert answer == (200, "first redis", [])
    assert told(kept, "v/42") == [("42", "g", "streamed")]


def test_a_response_keeps_its_own_headers_beside_the_cookie(ainsend: AsyncInSend) -> None:
    app = application(ainsend)

    @app.get("/")
    async def page() -> Response:
        await ainsend.link()
        response = PlainTextResponse("")
        response.set_cookie("theme", "dark")
        response.set_cookie("size", "large")
        return response

    with serving(app) as port:
        answer = Browser(port, convead_guest_uid="g").get("/", X_Customer="42")
    assert [cookie.partition("=")[0] for cookie in answer.set_cookies] == ["theme", "size", "insend_known"]


@pytest.mark.parametrize("secure", [False, True])
def test_a_websocket_has_a_visitor_and_gets_no_cookie(insend: InSend, kept: Kept, *, secure: bool) -> None:
    app = FastAPI()

    @app.websocket("/chat")
    async def chat(websocket: WebSocket) -> None:
        insend = await get_insend(websocket)
        await insend.link()
        await websocket.accept()
        await websocket.send_text((await insend.link()).where)
        await websocket.close()

    async def talk() -> list[dict[str, Any]]:
        headers = [(b"host", b"shop.example.com"), (b"cookie", b"convead_guest_uid=g"), (b"x-customer", b"42")]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "scheme": "wss" if secure else "ws", "path": "/chat", "headers": headers}
        async with AsyncInSend(settings=insend.settings) as ainsend:
            middleware = InSendMiddleware(app, insend=ainsend, visitor_uid=customer)
            await middleware({**scope, "query_string": b"room=1"}, receive, send)
        return sent

    sent = asyncio.run(talk())  # by hand: this server speaks no websockets without a further package
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert (sent[0]["headers"], sent[1]["text"]) == ([], "redis")
    url = ("https" if secure else "http") + "://shop.example.com/chat?room=1"
    assert [json.loads(record.payload)["url"] for record in kept("v/42")] == [url, url]
    assert told(kept, "v/42") == [("42", "g", None), ("42", None, None)]


def producers_of(client: redis.Redis) -> list[dict[str, str]]:
    """The connections that InSends hold."""
    return [each for each in client.client_list() if each["name"] == "insend-relay-producer"]


def test_a_client_that_goes_away_in_the_middle_of_a_call_leaves_the_link_usable(own_redis: EmbeddedRedis) -> None:
    insend = AsyncInSend(app_key="k", domain="example.com", redis_url=own_redis.url, enqueue_timeout_ms=600_000)
    app = application(insend)
    ended: list[str] = []

    async def chunks() -> AsyncIterator[str]:
        yield "first "
        try:
            await insend.link()
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    @app.get("/stream")
    async def stream() -> Response:
        return StreamingResponse(chunks())

    @app.get("/page")
    async def page() -> str:
        return (await insend.link()).where

    with connect(own_redis.url) as client, serving(app) as port:
        browser = Browser(port, convead_guest_uid="g")
        assert browser.get("/page").text == '"redis"'
        client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
        try:
            with browser.connection() as connection:
                connection.request("GET", "/stream", headers={"Cookie": "convead_guest_uid=g"})
                connection.getresponse().read(1)
                wait_until(lambda: any("b" in each["flags"] for each in producers_of(client)), PATIENCE_SECONDS)
            wait_until(lambda: ended, PATIENCE_SECONDS)
        finally:
            client.execute_command("CLIENT", "UNPAUSE")
        assert ended == ["CancelledError"]
        assert browser.get("/page").text == '"redis"'
        assert len(producers_of(client)) == 1


def test_the_next_request_on_a_connection_is_its_own_visitors(ainsend: AsyncInSend, kept: Kept) -> None:
    """Asyncio and uvicorn start it in a copy of the former one's context."""
    app = application(ainsend)

    @app.post("/")
    async def page(request: Request) -> str:
        body = await request.body()
        await ainsend.link(title=str(len(body)))
        return "done"

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:
        return PlainTextResponse((await ainsend.link(title="outside")).where)  # the middleware has ended by then

    @app.post("/broken")
    async def fail() -> None:
        raise ValueError

    def post(path: str, guest: str, size: int, end: str = "") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: shop.example.com\r\nCookie: convead_guest_uid={guest}\r\n{end}"
        return f"{head}Content-Length: {size}\r\n\r\n".encode() + b"x" * size

    large = 3_000_000  # more than the server reads ahead, so that it stops and goes on reading
    with serving(app) as port:
        raw(
            port,
            post("/", "anna", large) + post("/", "boris", 1) + post("/broken", "clara", 0, "Connection: close\r\n"),
        )
    assert told(kept, "g/anna") == [(None, "anna", str(large))]
    assert told(kept, "g/boris") == [(None, "boris", "1")]
    assert told(kept, "g/clara") == []


def test_a_request_inside_a_request_gives_the_outer_one_back(ainsend: AsyncInSend, kept: Kept) -> None:
    inner, app = application(ainsend), application(ainsend)

    @inner.get("/inner")
    async def inside() -> str:
        return (await ainsend.link(title="inner")).where

    @app.get("/")
    async def outside() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(_: Any) -> None:
            pass

        headers = [(b"host", b"shop.example.com"), (b"cookie", b"convead_guest_uid=boris")]
        scope = {"type": "http", "method": "GET", "path": "/inner", "query_string": b"", "headers": headers}
        await inner(scope, receive, send)
        await ainsend.link(title="outer")

    with serving(app) as port:
        assert Browser(port, convead_guest_uid="anna").get("/").status == 200
    assert told(kept, "g/boris") == [(None, "boris", "inner")]
    assert told(kept, "g/anna") == [(None, "anna", "outer")]


def test_a_server_that_has_started_is_connected_before_the_first_request(own_redis: EmbeddedRedis) -> None:
    insend = AsyncInSend(app_key="k", domain="example.com", redis_url=own_redis.url, enqueue_timeout_ms=10_000)
    with connect(own_redis.url) as client, serving(application(insend)):
        assert len(producers_of(client)) == 1


def test_the_end_of_the_lifespan_ends_the_connections_after_the_applications_own(own_redis: EmbeddedRedis) -> None:
    insend = AsyncInSend(app_key="k", domain="example.com", redis_url=own_redis.url, enqueue_timeout_ms=10_000)
    receipts: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        receipts.append((await insend.link(visitor_uid="1")).where)
        yield
        receipts.append((await insend.link(visitor_uid="1")).where)

    config = uvicorn.Config(application(insend, lifespan=lifespan), port=0, lifespan="on", log_config=None, ws="none")
    server = uvicorn.Server(config)

    async def live_and_die(client: redis.Redis) -> None:
        serving = asyncio.create_task(server.serve())
        await asyncio.to_thread(wait_until, lambda: server.started or serving.done(), PATIENCE_SECONDS)
        assert len(producers_of(client)) == 1
        server.should_exit = True
        await serving
        # Not the end of this event loop, which would end its connections too, but the middleware has to do it.
        await asyncio.to_thread(wait_until, lambda: not producers_of(client), PATIENCE_SECONDS)

    with connect(own_redis.url) as client:
        asyncio.run(live_and_die(client))
    assert receipts == ["redis", "redis"]
