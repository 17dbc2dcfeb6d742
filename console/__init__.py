"""What a person uses: the ``insend`` command, the sandbox tracker, and the embedded Redis for trying things.

Each subcommand imports what it needs when it runs, so that an installation for producers only (no Celery, no
requests) has a working ``insend status``, ``audit``, ``dead``, ``replay`` and ``visitor``.
"""
