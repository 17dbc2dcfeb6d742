"""The benchmark's tracker answers and counts, whatever its senders do."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from waiting import wait_until

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from machinery import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


def test_it_answers_and_notes_when_each_request_came(stub: Stub) -> None:
    with requests.Session() as session:
        session.trust_env = False
        answers = [session.post(stub.url, data={"data": "x" * 2_000}) for _ in range(3)]
        assert [(answer.status_code, answer.text) for answer in answers] == [(200, "OK")] * 3
        assert stub.count == len(stub.times) == 3
        stub.answer_after(0.001)
        assert stub.count == 0
        assert session.post(stub.url, data={}).status_code == 200


def test_a_request_counts_once_it_is_whole_and_a_sender_that_has_gone_harms_nobody(stub: Stub) -> None:
    address = urlsplit(stub.url)
    stub.answer_after(0.05)
    with socket.create_connection((address.hostname or "", address.port or 0)) as sender:
        sender.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
        assert stub.count == 0
        sender.sendall(b"{}")
        wait_until(lambda: stub.count == 1)
    with requests.Session() as session:
        session.trust_env = False
        assert session.post(stub.url, data={}).status_code == 200
