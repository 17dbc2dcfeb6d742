"""The ``insend`` command: its subcommands, loaded when they are used, and the one place where a run ends.

``insend --help`` imports no subcommand at all, and each subcommand only what it needs: ``insend status`` works where
neither Celery nor requests is installed. What may go wrong becomes a sentence and an exit code in ``exits.py``.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from insend_relay.console.commands.exits import leave

# name -> (module, what it does); the module has a click command of that name
_COMMANDS = {
    "worker": ("worker", "Deliver waiting events: Celery with our settings."),
    "send": ("send", "Send one event, or a file of them."),
    "status": ("status", "How the relay stands; the first line says whether to do something."),
    "audit": ("audit", "Recount everything and compare it with the books."),
    "dead": ("dead", "Look at dead letters, export or discard them."),
    "replay": ("replay", "Send dead letters again."),
    "visitor": ("visitor", "What waits for one visitor, and why it is held."),
    "erase": ("erase", "Discard everything of one person, here and in this machine's spool."),
    "pause": ("pause", "Hold an app back: its events are kept and none is sent."),
    "resume": ("pause", "Let an app go on at once."),
    "spool": ("spool", "What lies on this machine's disk because Redis could not take it."),
    "doctor": ("doctor", "What could cost events one day, and the fix."),
    "health": ("health", "Whether the workers of this machine make progress: the liveness probe."),
    "sandbox": ("sandbox", "A local tracker for trying things."),
}
# Where nothing else is set up, Python prints warnings to stderr: what they tell, ``exits.py`` says in a sentence.
_NOT_SHOWN = logging.NullHandler()


class _Commands(click.Group):
    """A group that imports a subcommand when it is used, and ends every run by ``exits.leave``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            near = difflib.get_close_matches(cmd_name, _COMMANDS, n=1)
            if near:  # in click's own words for the others
                ctx.fail(f"No such command '{cmd_name}'. Did you mean '{near[0]}'?")
            return None
        module = importlib.import_module(f"insend_relay.console.commands.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - it raises again what it does not know
            leave(error)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Settings are INSEND_* variables. Exit codes: 0 ok, 1 a finding, 2 usage, 3 Redis unreachable, "
    "130 interrupted.",
)
@click.version_option(package_name="insend-relay", prog_name="insend", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Insend Relay: every accepted event reaches the InSend tracker, in order per visitor."""
    if ctx.invoked_subcommand == "worker":  # it logs warnings, and imports nothing before gevent has patched
        return
    logging.getLogger("insend_relay").addHandler(_NOT_SHOWN)
    if ctx.invoked_subcommand != "doctor":  # which has a finding for each
        for unknown in _unknown_variables():
            click.echo(f"insend: warning: {unknown}", err=True)


def _unknown_variables() -> list[Any]:
    from insend_relay.outbox.settings import unknown_variables  # noqa: PLC0415 - not before gevent has patched

    return list(unknown_variables())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit; ``arguments`` are the process's own by default."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no bullets gets a question mark, not a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # the process's own streams are TextIOWrappers
    cli.main(args=arguments, prog_name="insend")
