"""The ``insend`` command: one module for each subcommand, and the words, tables and exit codes that they share.

Each subcommand imports what it needs when it runs, so that an installation for producers only (no Celery, no
requests) has a working ``insend status``, ``audit``, ``dead``, ``replay`` and ``visitor``.
"""
