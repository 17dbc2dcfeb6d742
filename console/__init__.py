"""What a person uses: the ``insend`` command (``commands/``), and a tracker to try things (``sandbox/``)."""
