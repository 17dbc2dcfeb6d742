"""Flask: settings from ``app.config``, several applications of different accounts, and events outside a request."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgi_server import Browser
from flask import Flask
from flask_account import account
from waiting import PATIENCE_SECONDS
from wsgi_server import serving

from insend_relay.outbox.errors import NotAccepted, SettingsError
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.unknown_variables import warn_of
from insend_relay.producers.flask import FlaskInSend
from insend_relay.producers.receipt import Receipt
from insend_relay.producers.testing import RecordedEvents

Kept = Callable[[str], list[Record]]
Shop = Callable[..., Flask]


@pytest.fixture
def finsend() -> Iterator[FlaskInSend]:
    """An extension that any number of shops share."""
    finsend = FlaskInSend()
    yield finsend
    finsend.close()


@pytest.fixture
def create_app(finsend: FlaskInSend, redis_url: str, namespace: str) -> Shop:
    """A factory of shops."""

    def create_app(app_key: str = "test-app-key", **config: Any) -> Flask:
        app = Flask(__name__)
        app.config.from_mapping(account(redis_url, namespace, app_key) | config)
        finsend.init_app(app)
        app.add_url_rule("/", view_func=lambda: finsend.link().where)
        return app

    return create_app


def count(outbox: Outbox, lane: str) -> int:
    """How many events wait in a lane such as ``first/g/guest``."""
    found: int = outbox.read("LLEN", outbox.keys.lane(Lane.parse(lane)))
    return found


def test_applications_of_two_accounts_share_a_process_and_not_an_event(create_app: Shop, outbox: Outbox) -> None:
    with serving(create_app("first")) as first, serving(create_app("second")) as second, ThreadPoolExecutor(8) as pool:
        ports = [first, second, first] * 10
        answers = pool.map(lambda port: Browser(port, convead_guest_uid="g").get("/").text, ports)
        assert set(answers) == {"redis"}
    assert count(outbox, "first/g/g") == 20
    assert count(outbox, "second/g/g") == 10


def test_the_visitor_uid_may_be_another_in_each_application(
    finsend: FlaskInSend, redis_url: str, namespace: str, outbox: Outbox
) -> None:
    for key, uid in (("first", "anna"), ("second", "boris")):
        app = Flask(key)
        app.config.from_mapping(account(redis_url, namespace, key))
        finsend.init_app(app, visitor_uid=lambda uid=uid: uid)  # type: ignore[misc]  # mypy does not see the default
        with app.test_request_context():
            finsend.link()
    assert (count(outbox, "first/v/anna"), count(outbox, "second/v/boris")) == (1, 1)


def test_outside_a_request_events_name_their_visitor(create_app: Shop, finsend: FlaskInSend, kept: Kept) -> None:
    app = create_app()
    create_app()  # the same account: as when each test makes the application anew
    receipts: list[Receipt] = []
    thread = threading.Thread(target=lambda: receipts.append(finsend.purchase(order_id=1, revenue=2, visitor_uid=42)))
    thread.start()
    thread.join()
    with app.app_context():
        receipts.append(finsend.order_update(order_id=1, state="shipped", visitor_uid=42))
        receipts.append(finsend.link())
    assert [receipt.where for receipt in receipts] == ["redis", "redis", "no_visitor"]
    assert len(kept("v/42")) == 2


def test_outside_a_request_one_of_several_accounts_is_named_by_its_application(
    create_app: Shop, finsend: FlaskInSend, outbox: Outbox
) -> None:
    apps = [create_app("first"), create_app("second")]
    with pytest.raises(RuntimeError, match="app_context"):
        finsend.link(visitor_uid=42)
    with apps[0].app_context():
        finsend.link(visitor_uid=42)
    assert (count(outbox, "first/v/42"), count(outbox, "second/v/42")) == (1, 0)


def test_an_application_that_was_forgotten_is_told_of(create_app: Shop, finsend: FlaskInSend) -> None:
    with pytest.raises(RuntimeError, match="init_app"):
        finsend.link(visitor_uid=42)
    create_app()
    with Flask(__name__).app_context(), pytest.raises(RuntimeError, match="init_app"):
        finsend.link(visitor_uid=42)


def test_an_application_has_one_account(create_app: Shop) -> None:
    app = create_app()
    with pytest.raises(RuntimeError, match="already"):
        FlaskInSend(app)


def test_after_close_nothing_is_taken(create_app: Shop, finsend: FlaskInSend) -> None:
    create_app()
    finsend.close()
    with pytest.raises(NotAccepted):
        finsend.link(visitor_uid=42)


def settings_of(app: Flask) -> Any:
    """What an application's settings have become."""
    finsend: FlaskInSend = app.extensions["insend"]
    return finsend._accounts[app].insend.settings


def test_app_config_goes_before_the_environment(create_app: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSEND_DOMAIN", "env.example.com")
    monkeypatch.setenv("INSEND_GUEST_COOKIE", "from_env")
    monkeypatch.setenv("INSEND_OPT_OUT_COOKIE", "from_env")
    app = create_app(INSEND_ENABLED=False, INSEND_RETRY_JITTER=0.5, INSEND_OPT_OUT_COOKIE=None)
    settings = settings_of(app)
    assert (settings.domain, settings.guest_cookie) == ("shop.example.com", "from_env")
    assert settings.opt_out_cookie == "convead_track_disable"
    assert (settings.enabled, settings.retry_jitter, settings.enqueue_timeout_ms) == (False, 0.5, 10_000)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"INSEND_APP_KEY": None}, "INSEND_APP_KEY (app_key=) is not set"),
        ({"INSEND_DOMAIN": "https://shop.example.com/"}, "give the domain alone"),
        ({"INSEND_ENQUEUE_TIMEOUT_MS": "soon"}, "INSEND_ENQUEUE_TIMEOUT_MS: must be a whole number"),
        ({"INSEND_ENABLED": "perhaps"}, "INSEND_ENABLED: must be 1 or 0"),
        ({"INSEND_DOMAIN": ["shop.example.com"]}, 'app.config["INSEND_DOMAIN"]: give text, a number, True or False'),
    ],
)
def test_a_faulty_setting_is_told_when_the_application_is_made(
    create_app: Shop, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        create_app(**config)
    assert any(words in fault for fault in caught.value.faults)


def test_an_unknown_setting_is_a_warning_with_the_nearest_name(
    create_app: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of.cache_clear()
    create_app(INSEND_REDIS_ULR="redis://127.0.0.1")
    assert "INSEND_REDIS_ULR is not a setting and has no effect; did you mean INSEND_REDIS_URL?" in caplog.text


def test_an_applications_tests_see_its_events_without_redis(
    finsend: FlaskInSend, insend_events: RecordedEvents
) -> None:
    app = Flask(__name__)
    app.config.from_mapping(INSEND_ENABLED=False)
    finsend.init_app(app, visitor_uid=lambda: "anna")
    app.add_url_rule("/", view_func=lambda: finsend.link(title="Home").where)
    client = app.test_client()
    client.set_cookie("convead_guest_uid", "g")
    assert [client.get("/").text, client.get("/").text] == ["redis", "redis"]
    assert [(event.visitor_uid, event.guest_uid, event.title) for event in insend_events] == [
        ("anna", "g", "Home"),
        ("anna", None, "Home"),
    ]


def test_importing_the_binding_loads_no_console_no_worker_and_no_flask_login() -> None:
    script = (
        "import sys, insend_relay.producers.flask; "
        "rooms = ('insend_relay.worker', 'insend_relay.console', 'celery', 'requests', 'rich', 'flask_login'); "
        "print([name for name in sys.modules if name.startswith(rooms)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.stdout.strip() == "[]"
