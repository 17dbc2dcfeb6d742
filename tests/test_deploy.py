"""deploy/, checked as far as it can be without deploying: real servers start with the conf, systemd reads the units."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from tools import needs
from waiting import wait_until

from insend_relay.console.sandbox.embedded import Server, find_server, free_port
from insend_relay.outbox.connection import connect
from insend_relay.outbox.settings import Settings, variable
from insend_relay.worker.health import ANSWER_SECONDS, STUCK_SECONDS

TOP = Path(__file__).parent.parent
DEPLOY = TOP / "deploy"
CONF = DEPLOY / "redis.conf"


@contextmanager
def a_server(server: Server, folder: Path, *more: str) -> Iterator[tuple[redis.Redis, subprocess.Popen[bytes]]]:
    """A server started with our conf, on a free port and in a folder of its own; it must not have complained."""
    port = free_port()
    log = folder / "log"
    place = ["--port", str(port), "--dir", str(folder), "--logfile", str(log)]
    command = [str(find_server(server)), str(CONF), *place, *more]
    with subprocess.Popen(command) as process, connect(f"redis://127.0.0.1:{port}/0") as client:

        def answers() -> bool:
            assert process.poll() is None, log.read_text() if log.exists() else "it ended without a log"
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        try:
            wait_until(answers)
            yield client, process
        finally:
            process.kill()


@pytest.mark.parametrize("server", ["redis", "valkey"])
def test_a_server_starts_with_the_conf_and_does_what_it_promises(server: Server, tmp_path: Path) -> None:
    with a_server(server, tmp_path) as (client, _):
        shown = client.config_get("*")
    in_force = {str(name): str(value) for name, value in shown.items()}
    assert (
        in_force
        | {
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "aof-load-truncated": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "maxmemory": str(1024**3),
            "bind": "127.0.0.1 -::1",
            "protected-mode": "yes",
            "timeout": "0",
        }
        == in_force
    )


@pytest.mark.parametrize("server", ["redis", "valkey"])
def test_what_it_has_taken_survives_a_kill(server: Server, tmp_path: Path) -> None:
    with a_server(server, tmp_path) as (client, process):
        client.set("kept", "yes")
        process.kill()
    with a_server(server, tmp_path) as (client, _):
        assert client.get("kept") == b"yes"


@pytest.mark.parametrize("server", ["redis", "valkey"])
def test_a_backup_is_restored_as_documented(server: Server, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    with a_server(server, before) as (client, _):
        client.set("kept", "yes")
        saved = client.lastsave()
        wait_until(lambda: client.time()[0] > saved.timestamp())  # LASTSAVE has whole seconds
        client.bgsave()
        wait_until(lambda: client.lastsave() != saved)
    shutil.copy(before / "dump.rdb", after)
    with a_server(server, after) as (client, _):
        assert client.get("kept") is None, "with appendonly yes the backup is ignored"
    shutil.rmtree(after)
    after.mkdir()
    shutil.copy(before / "dump.rdb", after)
    with a_server(server, after, "--appendonly", "no") as (client, _):
        client.config_set("appendonly", "yes")
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    with a_server(server, after) as (client, _):
        assert client.get("kept") == b"yes"


def test_the_conf_renames_no_command_and_names_no_folder() -> None:
    directives = {line.split()[0] for line in CONF.read_text().splitlines() if line and not line.startswith("#")}
    assert directives & {"rename-command", "dir", "logfile", "requirepass", "daemonize"} == set()


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    systemd_analyze = needs("systemd-analyze")
    program = Path(sys.executable).parent / "insend"
    for unit in (DEPLOY / "insend-worker@.service", DEPLOY / "insend-worker.target"):
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/insend-relay/bin/insend", str(program)))
    # It says what it does not understand and still exits 0; other units of this machine are not our business.
    found = subprocess.run(
        [systemd_analyze, "verify", "--man=no", "./insend-worker@1.service", "./insend-worker.target"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in found.stderr.splitlines() if "insend" in line] == []
    assert found.returncode == 0, found.stderr


def unit(name: str) -> dict[str, list[str]]:
    """A unit's settings; those that stand more than once have more than one value."""
    settings: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            settings.setdefault(key, []).append(value)
    return settings


def test_the_worker_unit_stops_gently_comes_back_and_shows_no_secret() -> None:
    settings = unit("insend-worker@.service")
    assert settings["KillMode"] == ["mixed"]
    assert settings["Type"] == ["notify"]
    assert float(settings["WatchdogSec"][0]) >= 30
    assert settings["WatchdogSignal"] == ["SIGKILL"], "a core dump would hold personal data"
    assert settings["Restart"] == ["always"]
    assert float(settings["TimeoutStopSec"][0]) > Settings().stop_seconds + 2
    assert shlex.split(settings["ExecStart"][0])[1] == "worker"
    assert "INSEND" not in settings["ExecStart"][0]
    assert settings["Environment"] == ["INSEND_PROCESSES=1"]
    assert settings["WantedBy"] == settings["PartOf"] == ["insend-worker.target"]


def env_example() -> dict[str, str]:
    return dict(line.split("=", 1) for line in env_lines() if not line.startswith("#"))


def env_lines() -> list[str]:
    return [line for line in (DEPLOY / "env.example").read_text().splitlines() if line]


def test_the_env_example_names_settings_that_exist_and_with_their_defaults_where_it_leaves_them_out() -> None:
    known = {variable(field): field.default for field in fields(Settings)}
    left_out = dict(re.findall(r"^# (INSEND_[A-Z_]+)=(.*)$", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert set(env_example()) | set(left_out) <= set(known)
    assert {"INSEND_REDIS_URL", "INSEND_APP_KEY", "INSEND_DOMAIN"} <= set(env_example())
    assert {name: value for name, value in left_out.items() if name != "INSEND_ENABLED"} == {
        name: str(known[name]) for name in left_out if name != "INSEND_ENABLED"
    }


def test_the_env_example_is_accepted_as_it_stands_and_has_no_secret() -> None:
    settings = Settings.from_env(env_example())
    assert settings.invalid == "bury"
    assert settings.app_key == ""
    assert "@" not in settings.redis_url


def test_the_env_example_is_plain_enough_for_systemd_compose_and_a_shell() -> None:
    assert all(re.fullmatch(r"#.*|[A-Z_]+=[^\s\"'$#]*", line) for line in env_lines())
    assert not any(name.startswith("INSEND_PROCESSES") for name in env_example())  # it would undo the unit's own line


def containerfile() -> list[list[str]]:
    text = re.sub(r"\\\n", " ", (DEPLOY / "Containerfile").read_text())
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_the_containerfile_copies_what_exists_and_all_that_the_wheel_needs() -> None:
    copied = {
        source
        for word, *rest in containerfile()
        if word == "COPY" and not rest[0].startswith("--from")
        for source in rest[:-1]
    }
    assert [source for source in copied if not (TOP / source).exists()] == []
    built = tomllib.loads((TOP / "pyproject.toml").read_text())
    packages = built["tool"]["setuptools"]["package-dir"].values()
    assert copied >= {"pyproject.toml", built["project"]["readme"], *built["project"]["license-files"], *packages}


def test_the_container_runs_insend_worker_without_a_shell_and_not_as_root() -> None:
    last = {words[0]: " ".join(words[1:]) for words in containerfile()}
    assert yaml.safe_load(last["ENTRYPOINT"]) + yaml.safe_load(last["CMD"]) == ["insend", "worker"]
    assert last["USER"].split(":")[0] not in {"0", "root"}
    assert "://" not in (DEPLOY / "Containerfile").read_text()


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return parsed


def test_the_compose_file_has_the_outbox_and_a_worker_and_refers_to_what_exists() -> None:
    parsed = compose()
    store, worker = parsed["services"]["redis"], parsed["services"]["worker"]
    context = (DEPLOY / worker["build"]["context"]).resolve()
    assert context == TOP
    assert (context / worker["build"]["dockerfile"]).is_file()
    conf, data = (volume.split(":") for volume in store["volumes"])
    assert (DEPLOY / conf[0]).samefile(CONF)
    assert conf[1] in store["command"]
    assert data[0] in parsed["volumes"]
    for service in parsed["services"].values():
        assert set(service["networks"]) <= set(parsed["networks"])
    assert set(worker["depends_on"]) <= set(parsed["services"])
    assert f"//{worker['depends_on'].popitem()[0]}:6379/" in worker["environment"]["INSEND_REDIS_URL"]


def test_in_the_compose_file_nobody_outside_reaches_redis_and_the_worker_has_time_to_stop() -> None:
    parsed = compose()
    store, worker = parsed["services"]["redis"], parsed["services"]["worker"]
    assert "ports" not in store
    assert all(parsed["networks"][network]["internal"] for network in store["networks"])
    assert float(worker["stop_grace_period"].removesuffix("s")) > Settings().stop_seconds + 2
    assert set(worker["environment"]) <= {variable(field) for field in fields(Settings)}


def test_the_probes_of_compose_and_kubernetes_ask_insend_health_and_wait_for_its_answer() -> None:
    page = (TOP / "docs" / "deploy.md").read_text(encoding="utf-8")
    probe = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0])["livenessProbe"]
    check = compose()["services"]["worker"]["healthcheck"]
    assert probe["exec"]["command"] == check["test"][1:] == ["insend", "health"]
    assert min(probe["timeoutSeconds"], float(check["timeout"].removesuffix("s"))) > ANSWER_SECONDS
    assert f"{STUCK_SECONDS:.0f}\nseconds" in page


def test_a_server_starts_with_the_command_of_the_compose_file(tmp_path: Path) -> None:
    program, _, *options = compose()["services"]["redis"]["command"]
    assert program == "valkey-server"
    overridden = {name.removeprefix("--") for name in options if name.startswith("--")}
    assert overridden == {"bind", "protected-mode"}
    with a_server("valkey", tmp_path) as (client, _):
        for name, value in zip(options[::2], options[1::2], strict=True):
            if name != "--bind":  # it would listen on this machine's outside
                assert client.config_set(name.removeprefix("--"), value)


def test_every_file_in_deploy_is_explained_in_the_docs() -> None:
    explained = (TOP / "docs" / "deploy.md").read_text()
    assert [file.name for file in DEPLOY.iterdir() if file.is_file() and f"deploy/{file.name}" not in explained] == []
