"""What a Celery worker runs.

    pump        a thread of each worker: when a lane may be claimed, it publishes one hint
    deliver     the Celery task behind the hint: claims lanes and delivers their events, many lanes at once
    lane run    one lane in one greenlet: POST, then settle, retry, release or bury, then the next event
    settling    what the tracker took leaves the outbox: all of one moment in one step
    tracker     the HTTP client; one POST, one Outcome
    policy      tenacity decides whether to try again, and when

Celery runs, distributes, supervises and stops the work; tenacity decides about retries; Redis keeps the truth. A Celery
message is never the only copy of an event: it carries none, and may be lost or doubled without harm.
"""
