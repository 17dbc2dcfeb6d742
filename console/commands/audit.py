"""``insend audit``: recount everything that lies in Redis and compare it with the books."""

from __future__ import annotations

import click

from insend_relay.console.commands.exits import FINDING
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.terminal import json_option, plain, print_json, screen, table
from insend_relay.operations.audit import audit as recount


@click.command(epilog="Example: insend audit --json")
@json_option
def audit(*, as_json: bool) -> None:
    """Recount everything and compare it with the books; exit code 1 when they do not balance."""
    with open_outbox() as outbox:
        found = recount(outbox)
    if as_json:
        print_json(found.as_dict())
    else:
        console = screen()
        verdict = "The books balance." if found.balanced else "THE BOOKS DO NOT BALANCE."
        console.print(plain(verdict, "bold green" if found.balanced else "bold red"))
        for finding in found.findings:
            console.print(plain(f"- {finding}"), soft_wrap=True)
        console.print(table("COUNTED", "", rows=list(found.counts.items())))
    if not found.balanced:
        raise click.exceptions.Exit(FINDING)
