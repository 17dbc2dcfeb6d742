"""``manage.py insend_status`` and its like: the ``insend`` command by Django's settings, with all its arguments."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, ClassVar, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from insend_relay.outbox.errors import SettingsError
from insend_relay.producers.configured import become_insend, commands, environment
from insend_relay.producers.django.configuration import overrides


class InSendCommand(BaseCommand):
    """A subcommand of ``insend``; its exit codes and its texts are kept."""

    subcommand: ClassVar[str]

    def run_from_argv(self, argv: list[str]) -> None:
        """Run it from the command line: ``manage.py insend_status --json``; it ends the process."""
        with _environment():
            commands().main([self.subcommand, *_without_djangos(argv[2:])])

    def print_help(self, prog_name: str, subcommand: str) -> None:  # noqa: ARG002 - Django's signature
        """Run ``manage.py help insend_status``."""
        commands().cli.main([self.subcommand, "--help"], prog_name="insend", standalone_mode=False)

    def create_parser(self, prog_name: str, subcommand: str, **_: Any) -> CommandParser:
        """For ``call_command``: a parser to which everything is an argument, and nothing an option of its own."""
        parser = CommandParser(prog=f"{prog_name} {subcommand}", add_help=False, prefix_chars="\0")
        parser.add_argument("args", nargs=REMAINDER)
        return parser

    def execute(self, *arguments: str, **options: Any) -> None:
        """Run it in this process: ``call_command("insend_status", "--json", stdout=...)``.

        Raises:
            CommandError: Its exit code was not 0; ``returncode`` has it.
        """
        out, err = options.get("stdout") or sys.stdout, options.get("stderr") or sys.stderr
        try:
            with redirect_stdout(out), redirect_stderr(err), _environment():
                commands().cli.main([self.subcommand, *arguments], prog_name="insend")
        except SystemExit as end:
            if end.code:
                words = f"insend {self.subcommand} ended with exit code {end.code}"
                raise CommandError(words, returncode=end.code) from None


class InSendProgram(InSendCommand):
    """A subcommand that becomes the process, in which Django is loaded no longer: a worker needs nothing of it."""

    def run_from_argv(self, argv: list[str]) -> NoReturn:
        """Run it from the command line: ``manage.py insend_worker``."""
        with _environment():
            become_insend([self.subcommand, *_without_djangos(argv[2:])], {})

    def execute(self, *_: str, **__: Any) -> NoReturn:
        """Refuse ``call_command``."""
        raise CommandError(f"insend {self.subcommand} is a process of its own: start it from the command line")


@contextmanager
def _environment() -> Iterator[None]:
    """Django's settings as environment variables; ends the run where they are wrong."""
    try:
        with environment(overrides()):
            yield
    except SettingsError as error:
        code, text = commands("exits").explain(error)
        sys.stderr.write(f"insend: {text}\n")
        sys.exit(code)


def _without_djangos(arguments: Sequence[str]) -> list[str]:
    """The arguments without the two that ``manage.py`` has acted upon by now."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    return parser.parse_known_args(arguments)[1]
