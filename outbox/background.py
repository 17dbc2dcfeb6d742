"""A background thread that is started when there is work, by any number of calls, without a lock."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from insend_relay.outbox import uwsgi


class Background:
    """At most one thread at a time runs ``work``.

    It holds no lock, so starting it may be re-entered at any point, by a signal handler or by ``__del__``. A thread
    that was started twice finds the place taken and ends. For one process: see ``PerProcess``.

    Args:
        name: The thread's name.
        work: Runs until there is no more work, or until ``stopped``.
        wanted: Tells whether there is work after all; asked when ``work`` has returned and ``start`` starts a thread
            again, so that no work is left behind.

    Attributes:
        stopped: Whether the thread was told to end.
    """

    def __init__(self, name: str, work: Callable[[], None], *, wanted: Callable[[], bool] = lambda: False) -> None:
        self.stopped = False
        self._name = name
        self._work = work
        self._wanted = wanted
        self._place: dict[str, threading.Thread] = {}
        # Released when the thread is to look again. Not a queue: gevent can patch the threads and leave queues as they
        # are, and such a queue would block all greenlets.
        self._nudged = threading.Lock()
        self._nudged.acquire()

    def start(self) -> None:
        """Start the thread if it does not run; RuntimeError when there is none to be had."""
        if self._place:
            return
        if sys.is_finalizing():  # the new thread would never run, and start() would wait for it for ever
            raise RuntimeError("Python is shutting down")
        uwsgi.warn_without_threads()
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except AssertionError as error:  # gevent's BlockingSwitchOutError: a signal handler in its hub cannot wait
            raise RuntimeError(f"this call cannot wait for it: {error!r}") from error

    def is_current(self) -> bool:
        """Whether the caller runs in this thread, as ``__del__`` may: it must not wait for the thread's work."""
        return self._place.get("thread") is threading.current_thread()

    def nudge(self) -> None:
        """Wake the thread from ``wait``; the caller has noted beforehand what there is to do."""
        if self._nudged.locked():  # else it wakes anyway, and looks after that
            with suppress(RuntimeError):  # another call has released it since
                self._nudged.release()

    def wait(self, seconds: float = -1) -> None:
        """For ``work``: sleep until a nudge, or for so long; -1 sets no limit."""
        self._nudged.acquire(timeout=seconds)

    def dismiss(self) -> None:
        """Tell the thread to end, and wait for nothing."""
        self.stopped = True
        self.nudge()

    def stop(self, seconds: float) -> None:
        """Tell the thread to end, and wait for it, at most so long."""
        self.dismiss()
        thread = self._place.get("thread")
        if thread is not None and not self.is_current():
            thread.join(seconds)

    def _run(self) -> None:
        kind = threading.Lock
        self._do_work()
        while threading.Lock is not kind:
            # gevent has patched the threads meanwhile. Since then threading knows this one by another ident, and would
            # print an error at its end. So it sleeps until the process ends.
            self.wait()

    def _do_work(self) -> None:
        me = threading.current_thread()
        while self._place.setdefault("thread", me) is me:
            try:
                self._work()
            finally:
                self._place.pop("thread", None)
            if not self._wanted():
                return
