"""Events on this machine's disk while Redis cannot take them, and how they get into the outbox.

A producer writes an event into the spool when Redis is away, does not answer or is full. A flush, in any process of the
machine that has the spool in its settings, moves the events on in the order of their acceptance. Each enters the outbox
exactly once, however often a flush is killed (``outbox/lua/shared/entrance.lua``).
"""
