"""Flask under gunicorn: threads that serve one request after another, and greenlets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgi_server import Browser
from flask_account import account
from waiting import wait_until

from insend_relay.outbox.record import Record

Kept = Callable[[str], list[Record]]
SHOP = """
import time
from flask import Flask, Response, session, stream_with_context
from insend_relay.producers.flask import FlaskInSend

app = Flask(__name__)
app.config.from_file("config.json", load=__import__("json").load)
insend = FlaskInSend(app, visitor_uid=lambda: session.get("customer"))

@app.get("/view/<path:product>")
def view(product):
    return insend.view_product(product_id=product).where

@app.get("/buy/<name>")
def buy(name):
    insend.link()
    time.sleep(0.01)  # others are served meanwhile
    session["customer"] = name
    insend.update_info(visitor_info={"first_name": name})
    time.sleep(0.01)
    return insend.purchase(order_id=name, revenue=1).where

@app.get("/crash")
def crash():
    insend.link()
    raise ZeroDivisionError

@app.get("/stream")
def stream():
    def parts():
        for product in "123":
            yield insend.view_product(product_id=product).where + " "
            time.sleep(0.01)
    return Response(stream_with_context(parts()))
"""


@pytest.fixture(params=[["gthread", "--threads", "4"], ["gevent"]], ids=["threads", "greenlets"])
def port(request: pytest.FixtureRequest, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[int]:
    """A shop with two worker processes; its port."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "config.json").write_text(json.dumps(account(redis_url, namespace)))
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("wb") as output:
        fd = listener.fileno()
        gunicorn = ["-m", "gunicorn", "--no-control-socket", "--workers", "2", "--bind", f"fd://{fd}"]
        server = subprocess.Popen(
            [sys.executable, *gunicorn, "--worker-class", *request.param, "--chdir", str(tmp_path), "shop:app"],
            pass_fds=[fd],
            stdout=output,
            stderr=output,
        )
        try:
            wait_until(lambda: log.read_text().count("Booting worker") >= 2 or server.poll() is not None)
            assert server.poll() is None, log.read_text()
            yield listener.getsockname()[1]
        finally:
            server.terminate()
            server.wait()


def data(kept: Kept, lane: str) -> list[dict[str, Any]]:
    return [json.loads(record.payload) for record in kept(lane)]


def uids(kept: Kept, lane: str) -> list[tuple[str | None, str | None]]:
    return [(event.get("visitor_uid"), event.get("guest_uid")) for event in data(kept, lane)]


def test_many_visits_at_once_each_under_its_own_uids(port: int, kept: Kept) -> None:
    visits = 40

    def visit(number: int) -> list[str]:
        browser = Browser(port, convead_guest_uid=f"g{number}")
        browser.get("/crash")
        return [browser.get(path).text for path in ("/stream", f"/buy/c{number}", "/stream")]

    with ThreadPoolExecutor(visits) as people:
        answers = list(people.map(visit, range(visits)))
    assert answers == [["redis redis redis ", "redis", "redis redis redis "]] * visits
    for number in range(visits):
        guest, customer = f"g{number}", f"c{number}"
        assert uids(kept, f"g/{guest}") == [(None, guest)] * 5
        assert uids(kept, f"v/{customer}") == [(customer, guest), *[(customer, None)] * 4]


def test_a_path_that_is_no_utf_8_keeps_its_bytes_in_the_address(port: int, kept: Kept) -> None:
    assert Browser(port, convead_guest_uid="g").get("/view/%FF%25a/%D1%8F?%FE=%FD").text == "redis"
    (found,) = data(kept, "g/g")
    assert found["url"] == "http://shop.example.com/view/%FF%25a/%D1%8F?%FE=%FD"
    assert found["path"] == "/view/\N{REPLACEMENT CHARACTER}%a/я"
