"""``insend worker``: Celery, with its command line made from our settings, in this process."""

from __future__ import annotations

import os
import sys

import click

from insend_relay.console.commands.exits import needs


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: insend worker --loglevel=warning --hostname=relay1@%h",
)
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED)
def worker(celery_options: tuple[str, ...]) -> None:
    """Deliver waiting events until SIGTERM or Ctrl-C.

    Runs Celery by INSEND_POOL, INSEND_PROCESSES and INSEND_CONCURRENCY; CELERY_OPTIONS are handed on to it. A Redis
    that is away is waited for; one that refuses our password or our keys ends it with exit code 3. Exit code 0 means
    that it was told to stop; any other is a failure (docs/cli.md has a table).
    """
    if sys.platform == "win32":
        raise click.UsageError("the worker does not run on Windows: run it under Linux, such as in WSL or a container")
    if os.environ.get("INSEND_POOL", "").strip() == "gevent":
        # Before anything below is imported: what Celery, requests and redis-py take from the standard library at
        # import time would otherwise block every greenlet at once.
        with needs("worker", "gevent"):
            from gevent.monkey import patch_all  # noqa: PLC0415 - only now is it known that it is wanted
        patch_all()

    from insend_relay.outbox.settings import Settings  # noqa: PLC0415 - see above
    from insend_relay.worker.environment import drop_celery_variables  # noqa: PLC0415 - see above

    settings = Settings.from_env()
    for option in celery_options:
        if option.startswith(("-P", "--pool")):
            raise click.UsageError("choose the pool by INSEND_POOL: it decides what is loaded before Celery is")
    drop_celery_variables()
    with needs("worker", "celery", "kombu", "billiard", "gevent", "httptools", "requests", "tenacity"):
        from insend_relay.worker.app import app, must_be_allowed, worker_arguments  # noqa: PLC0415 - see above
        from insend_relay.worker.program import check_semaphores, run  # noqa: PLC0415 - see above
    must_be_allowed(settings)
    check_semaphores(settings)
    app.runtime.process()  # SettingsError for certificates or a proxy that will not do
    code = run(worker_arguments(settings, celery_options))
    raise SystemExit(app.runtime.exit_code or code)
