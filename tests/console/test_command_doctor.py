"""``insend doctor``: a line for each thing, exit code 1 for what may lose events."""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

import pytest
import trustme
from answering import answer, answering, certified
from attempts import pause
from command_line import ALICE, CommandLine, claim, event, put

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox
from insend_relay.spool.spool import Spool


def finding(insend: CommandLine, about: str, **settings: str) -> str:
    """What it says about one thing."""
    insend.settings |= settings
    return next(f"{each['state']}: {each['text']}" for each in insend.json("doctor") if each["about"] == about)


def test_each_line_says_how_it_stands(insend: CommandLine) -> None:
    with Sandbox() as tracker:
        result = insend("doctor", INSEND_TRACKER_URL=tracker.url)
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"good", "look", "BAD", "cannot"}
    assert any(line.startswith("BAD        persistence") for line in lines), "the tests' Redis syncs nothing"
    assert any(line.startswith(f"good       tracker      127.0.0.1:{tracker.port} can be reached") for line in lines)
    assert result.exit_code == 1


def test_a_tracker_that_cannot_be_reached_is_worth_a_look(insend: CommandLine) -> None:
    assert "127.0.0.1:1 cannot be reached" in finding(insend, "tracker", INSEND_TRACKER_URL="http://127.0.0.1:1/")
    nowhere = finding(insend, "tracker", INSEND_TRACKER_URL="https://missing.invalid/")
    assert nowhere.startswith("bad: missing.invalid:443 cannot be reached from here (no such host). Check ")


def test_a_misspelt_variable_is_bad_and_one_of_no_known_name_is_worth_a_look(insend: CommandLine) -> None:
    assert finding(insend, "variables").startswith("good: ")
    assert finding(insend, "variables", INSEND_XYZ="1").startswith("look: INSEND_XYZ is not a setting")
    misspelt = finding(insend, "variables", INSEND_XYZ="", INSEND_SPOL="/var/lib/spool.db")
    assert misspelt.startswith("bad: INSEND_SPOL is not a setting and has no effect; did you mean INSEND_SPOOL?")


def test_the_handshake_with_the_tracker_is_made_with_the_trust_of_a_worker_and_no_event_is_sent(
    insend: CommandLine, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(answer("401 Unauthorized"), certified(authority)) as (server, port):
        url = f"https://127.0.0.1:{port}/watch/event"
        good = finding(insend, "tracker", INSEND_TRACKER_URL=url)
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        untrusted = finding(insend, "tracker", INSEND_TRACKER_URL=url)
    assert good == f"good: 127.0.0.1:{port} can be reached and its certificate is valid"
    assert untrusted.startswith(f"bad: 127.0.0.1:{port} cannot be reached from here (TLS failed: unable to get local")
    assert server.requests == []


def test_a_connection_through_a_proxy_is_tried_too(insend: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@127.0.0.1:1")
    found = finding(insend, "tracker", INSEND_TRACKER_URL="https://tracker.example.net/watch/event")
    assert found.startswith("look: tracker.example.net:443 through the proxy 127.0.0.1:1 cannot be reached")
    assert "secret" not in found


def test_a_tunnel_through_a_proxy_is_opened_to_the_tracker_s_own_certificate(
    insend: CommandLine, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, state in (("tracker.example.net", "good"), ("shop.example.com", "bad")):
        with answering(answer("200 OK"), inner=certified(authority, name)) as (proxy, port):
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
            found = finding(insend, "tracker", INSEND_TRACKER_URL="https://tracker.example.net/watch/event")
        assert found.startswith(f"{state}: tracker.example.net:443 through the proxy 127.0.0.1:{port} can")
        assert [request.split()[0] for request in proxy.requests] == ["CONNECT"]
    assert "certificate is not valid for 'tracker.example.net'" in found


def test_a_tracker_without_tls_through_a_proxy_is_not_said_to_be_reached(
    insend: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(answer("200 OK")) as (proxy, port):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        found = finding(insend, "tracker", INSEND_TRACKER_URL="http://tracker.example.net/watch/event")
    assert found.startswith(f"look: tracker.example.net:80 through the proxy 127.0.0.1:{port}: without TLS")
    assert proxy.requests == []


@pytest.mark.parametrize(("variable", "value"), [("REQUESTS_CA_BUNDLE", "/nowhere"), ("https_proxy", "socks5://h:1")])
def test_what_no_worker_can_start_with_is_bad(
    insend: CommandLine, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert finding(insend, "tracker").startswith("bad: no worker can start: ")


def test_without_the_worker_s_libraries_the_tracker_is_left_to_the_workers(
    insend: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gevent", None)
    monkeypatch.delitem(sys.modules, "insend_relay.console.commands.tracker_check", raising=False)
    assert finding(insend, "tracker").startswith("unseen: only workers send to it")


def test_what_a_tracker_echoed_is_masked_also_here(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    pause(outbox, claim(outbox), "403: zoe@example.com may not", fault="key")
    assert finding(insend, "delivery").startswith("bad: app shop is paused (403: ••• may not). The tracker does not")


def test_the_spool_is_looked_at(insend: CommandLine, tmp_path: Path, namespace: str) -> None:
    assert finding(insend, "spool").startswith("look: none")
    path = tmp_path / "folder" / "spool.db"
    to_be_made = f"the folder {path.parent} does not exist and would be made with spool.db: check INSEND_SPOOL"
    assert finding(insend, "spool", INSEND_SPOOL=str(path)) == f"look: {to_be_made}"
    assert not path.parent.exists()
    path.parent.mkdir()
    assert finding(insend, "spool", INSEND_SPOOL=str(path)) == f"good: {path} can be made"
    spool = Spool(path, namespace=namespace, most_bytes=10**8)
    spool.keep([(Entry(ALICE, new_id(), event()), "")], deadline=time.monotonic() + 60)
    assert finding(insend, "spool").startswith("look: 1 event in")
    spool.drop(1, deadline=time.monotonic() + 60)
    assert finding(insend, "spool") == f"good: {path} is writable and empty"
    path.chmod(0o644)
    assert "chmod 600" in finding(insend, "spool")


def test_a_spool_that_is_stuck_is_bad_but_not_while_redis_takes_no_events(
    insend: CommandLine, tmp_path: Path, namespace: str
) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, namespace=namespace, most_bytes=10**8)
    spool.keep([(Entry(ALICE, new_id(), event()), "")], deadline=time.monotonic() + 60)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE events SET kept_at_ms = kept_at_ms - 600000")
    database.close()
    stuck = f"bad: 1 event in {path} for 10 min, although Redis takes events: run `insend spool flush`"
    assert finding(insend, "spool", INSEND_SPOOL=str(path)) == stuck
    away = insend("doctor", INSEND_REDIS_URL="redis://127.0.0.1:1/0").stdout
    assert f"look       spool        1 event in {path}: see `insend spool`" in away


def test_a_spool_that_cannot_be_used_is_bad(insend: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear diary " * 100)
    assert finding(insend, "spool", INSEND_SPOOL=str(tmp_path / "file")).startswith("bad: the spool cannot be opened")
    assert finding(insend, "spool", INSEND_SPOOL=str(tmp_path / "file" / "spool.db")).startswith("bad: nothing can be")


def test_without_redis_it_says_that_and_the_rest_all_the_same(insend: CommandLine) -> None:
    result = insend("doctor", INSEND_REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 3
    assert "Is Redis running" in result.stderr
    assert "spool        none" in result.stdout
