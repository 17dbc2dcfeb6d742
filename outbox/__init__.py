"""What lies between a web request and the tracker: the events that are kept in Redis.

The outbox owns every key in Redis, the record of an event, and each transition in an event's life. It needs Redis and
nothing else; producers append to it, workers claim from it, operators read it and replay::

    append -> waiting (in its visitor's lane) -> claimed (lane leased) -> POST
       200                     -> settle   delivered, gone
       not 200, policy left    -> retry    waiting, the lane due later
       policy exhausted        -> bury     dead letter, the lane goes on
       tracker takes nothing   -> release  waiting, no attempt counted, the app paused and probed
    dead letter -> replay (back to the tail of its lane) | discard
    waiting or dead letter -> erase    a person's request; discarded

Each transition is one Lua script, so that it happens wholly or not at all, and so that the ledger (accepted =
delivered + waiting + dead + discarded) changes in the same step as the event. The outbox never decides whether or
when to retry: the worker does, and passes the decision on.
"""
