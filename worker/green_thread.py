"""A thread in which greenlets run, at the call of other threads.

A pool process has one beside the thread in which Celery runs its tasks. What was begun there goes on between two tasks.
In a process that gevent has patched it is a greenlet among others, and all is as before.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import gevent
import gevent.event
from gevent import monkey

T = TypeVar("T")
Job = TypeVar("Job")
CLOSE_SECONDS = 1.0  # gevent's resolver waits for look-ups that hang; the process does not


class Door:
    """By which other threads have functions called in the loop of the thread that made it.

    Not gevent's ``run_callback_threadsafe``: that raises the loop's count of what is active while libev, which works
    without the GIL, may be lowering it. Counts get lost, and a loop that counts nobody ends its thread (LoopExit).
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._bell = gevent.get_hub().loop.async_()  # as long as it is open, gevent takes the loop for one that goes on
        self._bell.start(self._answer)
        self._closed = False

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have a function called, soon; from any thread. After ``close`` this does nothing."""
        if self._closed:
            return
        self._calls.append((function, args))
        with contextlib.suppress(ValueError):  # the loop has been destroyed meanwhile
            self._bell.send()

    def close(self) -> None:
        """In its own thread: call nothing more."""
        self._closed = True
        self._bell.stop()
        self._bell.close()

    def _answer(self) -> None:
        try:
            while self._calls:
                function, args = self._calls.popleft()
                function(*args)
        finally:
            if self._calls:
                self._bell.send()


class GreenThread:
    """Starts with the first call; a forked child needs one of its own.

    Args:
        name: The thread's.
    """

    _door: Door

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._over: Any = None

    def start(self) -> None:
        """Start it, if it does not run yet; RuntimeError when there may be no more threads."""
        if self._thread is None:
            started = threading.Event()
            thread = threading.Thread(target=self._live, args=(started,), name=self._name, daemon=True)
            thread.start()
            started.wait()
            self._thread = thread

    def call(self, work: Callable[[], T]) -> T:
        """Do some work in a greenlet of the thread, and wait for what it returns or raises."""
        self.start()
        done: Future[T] = Future()
        self._door.call(gevent.spawn, self._work, work, done)
        return done.result()

    def close(self) -> None:
        """End the thread; greenlets that have not ended are dropped, and a look-up that hangs is not waited for."""
        if self._thread is not None:
            self._door.call(self._over.set)
            self._thread.join(CLOSE_SECONDS)
            self._thread = None

    def _live(self, started: threading.Event) -> None:
        self._door, self._over = Door(), gevent.event.Event()
        started.set()
        self._over.wait()
        self._door.close()
        if not monkey.is_module_patched("threading"):  # else the hub is everybody's
            gevent.get_hub().destroy(destroy_loop=True)

    @staticmethod
    def _work(work: Callable[[], T], done: Future[T]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it belongs to who called
            done.set_exception(error)
        else:
            done.set_result(result)


class Crew(Generic[Job]):
    """Greenlets of one thread that do one job after the other.

    A new greenlet for each would cost 10 us more: CPython maps 16 KB of memory for each one's frames, and unmaps them.

    Args:
        do: What they do; it must not raise.
    """

    def __init__(self, do: Callable[[Job], object]) -> None:
        self._do = do
        self._hub = gevent.get_hub()
        self._idle: list[Any] = []  # as many as ever were at work at a time

    def take(self, job: Job) -> None:
        """One of them begins with it soon."""
        if self._idle:
            self._hub.loop.run_callback(self._idle.pop().switch, job)
        else:
            gevent.spawn_raw(self._live, job)

    def _live(self, job: Job) -> None:
        me = gevent.getcurrent()
        while True:
            self._do(job)
            del job
            self._idle.append(me)
            job = self._hub.switch()
