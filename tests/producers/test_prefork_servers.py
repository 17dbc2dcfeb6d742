"""Servers that fork their workers after the application was imported: connected before, or called before the fork."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asgi_server import Browser
from prefork_shop import EVENTS, SERVERS, served
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode
from insend_relay.outbox.store import Outbox
from insend_relay.spool.spool import Spool

REQUESTS = 100
DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.fixture
def environ(redis_url: str, namespace: str) -> dict[str, str]:
    return {
        "INSEND_APP_KEY": "test-app-key",
        "INSEND_DOMAIN": "shop.example.com",
        "INSEND_REDIS_URL": redis_url,
        "INSEND_NAMESPACE": namespace,
        "INSEND_ENQUEUE_TIMEOUT_MS": "60000",
    }


def kept_ids(outbox: Outbox, uid: str) -> list[bytes]:
    name = outbox.keys.lane(Lane.parse(f"test-app-key/v/{uid}"))
    return [decode(data).id for data in outbox.read("LRANGE", name, 0, -1)]


@pytest.mark.parametrize("at_import", ["connect", "event"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_thousand_events_are_all_kept_once_and_pages_without_events_answer(
    server: str, at_import: str, environ: dict[str, str], outbox: Outbox, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    try:
        with served(server, at_import, log, environ) as port, ThreadPoolExecutor(4) as people:

            def visit(number: int) -> list[str]:
                sent = Browser(port).get(f"/send/{number}").text.split()
                assert Browser(port).get("/nothing").text.isdigit()
                return sent

            answers = list(people.map(visit, range(REQUESTS)))
    finally:
        print(log.read_text(errors="replace")[-5_000:])  # noqa: T201 - pytest shows it when this fails
    assert Counter(where for _, *sent in answers for where in sent) == {"redis": REQUESTS * EVENTS}
    ids = [event_id for uid in range(10) for event_id in kept_ids(outbox, f"{uid}")]
    assert len(ids) == len(set(ids)) == REQUESTS * EVENTS
    assert len(kept_ids(outbox, "import")) >= (at_import == "event")


def test_what_uwsgis_master_and_workers_spooled_comes_in_once_when_redis_is_back(
    environ: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool.db", namespace=namespace, most_bytes=10**8)
    with EmbeddedRedis(tmp_path / "redis", server="redis") as away, connect(away.url, timeout_seconds=60) as client:
        environ |= {"INSEND_REDIS_URL": away.url, "INSEND_SPOOL": str(spool.path)}
        away.stop()
        with served("uwsgi", "event", tmp_path / "log", environ) as port, ThreadPoolExecutor(4) as people:
            answers = list(people.map(lambda number: Browser(port).get(f"/send/{number}").text.split(), range(20)))
            away.start()
            wait_until(lambda: not spool.may_hold())
        outbox = Outbox(client, namespace=namespace)
        ids = [event_id for uid in [*range(10), "import"] for event_id in kept_ids(outbox, f"{uid}")]
    assert {where for _, *sent in answers for where in sent} == {"spool"}
    assert len(ids) == len(set(ids)) == 20 * EVENTS + 1


MULE = """
import time
from insend_relay.producers import InSend

insend = InSend.from_env()
print("of the mule:", insend.link(visitor_uid="mule").where, flush=True)
while True:
    time.sleep(60)
"""


def test_what_one_of_uwsgis_mules_spooled_comes_in_without_a_request(
    environ: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool.db", namespace=namespace, most_bytes=10**8)
    mule, log = tmp_path / "mule.py", tmp_path / "log"
    mule.write_text(MULE)
    with EmbeddedRedis(tmp_path / "redis", server="redis") as away, connect(away.url, timeout_seconds=60) as client:
        environ |= {"INSEND_REDIS_URL": away.url, "INSEND_SPOOL": str(spool.path)}
        away.stop()
        with served("uwsgi", "connect", log, environ, f"--mule={mule}"):
            wait_until(lambda: "of the mule: spool" in log.read_text(errors="replace"))
            away.start()
            wait_until(lambda: not spool.may_hold())
        assert len(kept_ids(Outbox(client, namespace=namespace), "mule")) == 1


def test_the_settings_for_uwsgi_that_the_docs_show_work(environ: dict[str, str], tmp_path: Path) -> None:
    (shown,) = re.findall(r"```ini\n(.*?)```", DEPLOY.read_text(), re.DOTALL)
    settings = tmp_path / "uwsgi.ini"
    settings.write_text(shown.replace("module = shop.wsgi\n", ""))
    options = ["--ini", str(settings), "--processes", "1"]
    with served("uwsgi", "event", tmp_path / "log", environ, *options) as port:
        assert Browser(port).get("/send/1").text.endswith(" ".join(["redis"] * EVENTS))
    assert "enable-threads" not in (tmp_path / "log").read_text(errors="replace"), "no warning"
