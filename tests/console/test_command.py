from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis
from command_line import CommandLine, alive, put
from waiting import PATIENCE_SECONDS

from insend_relay.console.commands import exits
from insend_relay.outbox.errors import InvalidEvent, NotAccepted, OutboxError, RelayError, SettingsError
from insend_relay.outbox.store import Outbox

COMMANDS = [
    "worker",
    "send",
    "status",
    "audit",
    "dead",
    "replay",
    "visitor",
    "erase",
    "pause",
    "resume",
    "spool",
    "doctor",
    "health",
    "sandbox",
]
EVERY = [[name] for name in COMMANDS if name != "dead"] + [
    ["dead", name] for name in ("list", "show", "groups", "discard", "export")
]
AWAY = {"INSEND_REDIS_URL": "redis://127.0.0.1:1/0"}
LOADED = """
import sys
from insend_relay.console.commands.main import cli
cli(sys.argv[1:], standalone_mode=False)
print(*sys.modules)
"""


def kinds(root: type[RelayError]) -> Iterator[type[RelayError]]:
    """An error and those derived from it that the command can meet; a worker's own stay in the worker."""
    yield root
    for kind in root.__subclasses__():
        if not kind.__module__.startswith("insend_relay.worker"):
            yield from kinds(kind)


def test_help_names_every_command(insend: CommandLine) -> None:
    shown = insend("--help").stdout
    assert re.findall(r"^  (\w+)  +[A-Z]", shown, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("command", EVERY)
def test_every_command_explains_itself_with_an_example(insend: CommandLine, command: list[str]) -> None:
    result = insend(*command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Examples?:\s+insend {' '.join(command)}", result.stdout)


def test_the_version_is_the_distribution_s(insend: CommandLine) -> None:
    assert re.fullmatch(r"insend \d+\.\d+\.\d+\S*\n", insend("--version").stdout)


def test_an_unknown_command_is_a_usage_error_that_suggests_a_known_one(insend: CommandLine) -> None:
    result = insend("stauts")
    assert result.exit_code == 2
    assert "No such command 'stauts'. Did you mean 'status'?" in result.stderr
    assert "No such command 'nosuch'." in insend("nosuch").stderr
    assert "No such command 'nosuch'." in insend("dead", "nosuch").stderr
    assert insend("xyzzy").exit_code == 2


@pytest.mark.parametrize("command", [["status"], ["dead", "groups"], ["replay", "--yes"], ["audit"]])
def test_looking_and_replaying_load_neither_celery_nor_requests_nor_a_web_server(
    insend: CommandLine, command: list[str]
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOADED, *command],
        env=insend.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    loaded = set(found.stdout.splitlines()[-1].split())
    assert "redis" in loaded
    assert not loaded & {"celery", "kombu", "requests", "tenacity", "flask", "waitress", "insend_relay.worker"}


def test_help_loads_no_command_and_not_even_redis(insend: CommandLine) -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOADED, "--help"],
        env=insend.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    loaded = found.stdout.splitlines()[-1].split()
    assert "click" in loaded
    assert not {"redis", "rich", "celery", "requests"} & set(loaded)
    assert not [name for name in loaded if name.endswith(("_command", "_commands"))]


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["audit"],
        ["dead", "list"],
        ["dead", "groups"],
        ["dead", "discard", "--yes"],
        ["replay", "--yes"],
        ["visitor", "alice"],
        ["pause"],
        ["resume", "shop"],
    ],
)
def test_a_redis_that_is_away_is_exit_code_3_and_a_sentence(insend: CommandLine, command: list[str]) -> None:
    result = insend(*command, **AWAY)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "insend: Redis cannot be reached" in result.stderr
    assert "INSEND_REDIS_URL" in result.stderr


def test_what_the_library_logs_does_not_reach_the_terminal(insend: CommandLine) -> None:
    result = insend.process("send", "link", "--visitor-uid", "alice", "--url", "https://shop.example.com/", **AWAY)
    (line,) = (line for line in result.stderr.splitlines() if "Redis" in line and "INSEND_REDIS_URL" not in line)
    assert line.startswith("insend: ")


def test_a_misspelt_variable_is_a_warning_beside_the_answer(insend: CommandLine) -> None:
    result = insend("status", "--json", INSEND_SPOL="/var/lib/spool.db", INSEND_TRACKER_PORT="tcp://10.96.0.11:443")
    assert json.loads(result.stdout)["accepted"] == 0
    warning = "insend: warning: INSEND_SPOL is not a setting and has no effect; did you mean INSEND_SPOOL?"
    assert result.stderr.splitlines() == [warning]
    assert result.exit_code == 0


@pytest.mark.parametrize(("command", "silenced"), [("worker", "0"), ("sandbox", "1")])
def test_a_worker_s_log_is_left_to_celery(insend: CommandLine, command: str, silenced: str) -> None:
    program = "print(len(__import__('logging').getLogger('insend_relay').handlers))"
    found = subprocess.run(
        [sys.executable, "-c", LOADED + program, command, "--help"],
        env=insend.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert found.stdout.splitlines()[-1] == silenced


def test_wrong_settings_are_exit_code_2_and_all_listed(insend: CommandLine) -> None:
    result = insend("status", INSEND_POOL="spam", INSEND_CONCURRENCY="0")
    assert result.exit_code == 2
    assert "INSEND_POOL" in result.stderr
    assert "INSEND_CONCURRENCY" in result.stderr


def test_an_address_that_is_none_is_exit_code_2(insend: CommandLine) -> None:
    assert insend("status", INSEND_REDIS_URL="redis://host:port/0").exit_code == 2


def test_a_finding_an_error_and_success_are_told_apart_by_a_shell(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    alive(outbox)
    assert insend.process("status").returncode == 0
    outbox.read("HINCRBY", outbox.keys.books_of("1"), "waiting", 1)
    assert insend.process("status").returncode == 1
    assert insend.process("status", "--nonsense").returncode == 2
    away = insend.process("status", **AWAY)
    assert (away.returncode, away.stdout) == (3, "")
    assert "Traceback" not in away.stderr


def test_a_terminal_that_knows_little_gets_question_marks(insend: CommandLine) -> None:
    result = insend.process("visitor", "нет", PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert "Nothing waits for ???." in result.stdout


@pytest.mark.parametrize("kind", list(kinds(RelayError)))
def test_every_error_of_ours_has_an_exit_code_and_a_text(kind: type[RelayError]) -> None:
    error = {
        SettingsError: SettingsError(["INSEND_POOL: wrong"]),
        InvalidEvent: InvalidEvent([("type", "missing")]),
    }.get(kind) or kind("wrong")
    code, text = exits.explain(error)
    assert code == (3 if issubclass(kind, OutboxError | NotAccepted) else 2)
    assert "wrong" in text or "type: missing" in text


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    assert exits.explain(ZeroDivisionError()) == (None, "")
    with pytest.raises(ZeroDivisionError):
        exits.leave(ZeroDivisionError())


@pytest.mark.parametrize(
    ("module", "pool"),
    [
        ("celery", "prefork"),
        ("httptools", "prefork"),
        ("tenacity", "prefork"),
        ("gevent", "prefork"),
        ("gevent", "gevent"),
    ],
)
def test_a_worker_without_its_libraries_says_what_to_install(insend: CommandLine, module: str, pool: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; from insend_relay.console.commands.main import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", program, "worker"],
        env=insend.environment(INSEND_POOL=pool),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert found.returncode == 2
    assert "pip install 'insend-relay[worker]'" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_sandbox_without_its_library_says_what_to_install(insend: CommandLine) -> None:
    program = "import sys; sys.modules['httptools'] = None; from insend_relay.console.commands.main import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", program, "sandbox", "--port", "0"],
        env=insend.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert "pip install 'insend-relay[sandbox]'" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_worker_says_that_its_certificates_are_not_there(insend: CommandLine) -> None:
    result = insend.process("worker", REQUESTS_CA_BUNDLE="/nowhere/ca.pem")
    assert result.returncode == 2
    assert "REQUESTS_CA_BUNDLE" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_gevent_pool_is_patched_in_before_anything_else_is_loaded(insend: CommandLine) -> None:
    program = """
import sys, gevent.monkey
patch_all = gevent.monkey.patch_all
def patch():
    print(*sys.modules)
    raise SystemExit(0)
gevent.monkey.patch_all = patch
from insend_relay.console.commands.main import main
main()
"""
    found = subprocess.run(
        [sys.executable, "-c", program, "worker"],
        env=insend.environment(INSEND_POOL="gevent"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert not {"ssl", "redis", "celery", "kombu", "requests", "urllib3"} & set(found.stdout.split())


def test_the_pool_is_chosen_by_its_setting_only(insend: CommandLine) -> None:
    for option in ("-Pgevent", "--pool=gevent"):
        result = insend("worker", option)
        assert result.exit_code == 2
        assert "INSEND_POOL" in result.stderr


def test_the_sandbox_shows_what_it_receives_and_ends_on_ctrl_c(insend: CommandLine) -> None:
    with insend.started("sandbox", "--port", 0) as process:
        assert process.stdout is not None
        announced = process.stdout.readline() + process.stdout.readline()
        found = re.search(r"INSEND_TRACKER_URL=http://127\.0\.0\.1:(\d+)/watch/event", announced)
        assert found, process.communicate(timeout=PATIENCE_SECONDS)
        port = int(found[1])
        assert f"http://127.0.0.1:{port}/\n" in announced
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as wire:
            wire.sendall(b"POST /watch/event?app_key=1&visitor_uid=eve HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 400 ")
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert complaints == ""
    assert re.search(r"400 +unknown type +.*data: missing", said)
    assert "eve" not in re.sub("event", "", said)


def test_a_port_that_is_taken_is_a_usage_error_and_no_address_is_announced(insend: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = insend.process("sandbox", "--port", taken.getsockname()[1])
    assert (result.returncode, result.stdout) == (2, "")
    assert "cannot listen" in result.stderr


@pytest.mark.parametrize(
    "command", ["status", "audit", "dead list", "dead groups", "visitor 7", "doctor", "replay", "resume", "erase 7"]
)
def test_a_command_that_only_looks_writes_nothing(insend: CommandLine, outbox: Outbox, command: str) -> None:
    assert "Traceback" not in insend(*command.split()).output
    assert outbox.read("KEYS", f"*{outbox.keys.namespace}*") == []


@pytest.mark.parametrize("command", ["status", "doctor", "dead list"])
def test_a_database_that_redis_does_not_have_is_named_as_the_address_s_fault(
    insend: CommandLine, redis_url: str, command: str
) -> None:
    result = insend(*command.split(), INSEND_REDIS_URL=redis_url.replace("/0", "/9999"))
    assert result.exit_code == 3
    assert "this Redis has no database of the number that INSEND_REDIS_URL ends with" in result.stderr


def test_a_namespace_outside_the_acl_is_named_as_the_possible_fault(
    insend: CommandLine, client: redis.Redis, redis_url: str
) -> None:
    client.acl_setuser("narrow", enabled=True, passwords=["+word"], keys=["{insend*"], commands=["+@all"])
    address = redis_url.replace("redis://", "redis://narrow:word@")
    try:
        result = insend("status", INSEND_REDIS_URL=address)
        assert insend("status", INSEND_REDIS_URL=address, INSEND_NAMESPACE="insend").exit_code == 0
    finally:
        client.acl_deluser("narrow")
    assert result.exit_code == 3
    assert "the ACL of our user has to allow the keys of INSEND_NAMESPACE" in result.stderr


def test_tls_to_a_port_without_it_is_named_as_a_possible_fault(insend: CommandLine, redis_url: str) -> None:
    result = insend("status", INSEND_REDIS_URL=redis_url.replace("redis://", "rediss://"))
    assert result.exit_code == 3
    assert "INSEND_REDIS_URL begins with rediss:// for a port that speaks TLS" in result.stderr
