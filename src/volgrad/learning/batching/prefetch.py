"""Stacks prepared in a thread of their own, while the device computes with those before."""

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType

from volgrad.learning.batching.loader import Loader, Stack

__all__ = ["Prefetch", "Request"]

#: Start position, steps, clusters of each batch: the arguments of `Loader.stack`.
Request = tuple[int, int, int]

_POLL_S = 0.1  # between looks at whether to stop, while the queue is full


class Prefetch:
    """Iterates over the stacks of some requests, of which a few are ready ahead.

    A stack that is given out lies in memory of its own and stays as it is. To save the system the work of handing out
    fresh memory (a fifth of the time of a large stack), hand it back with `release` once nothing computes with it any
    more: on the CPU, JAX may use numpy's memory as it is, and a step that was dispatched may not have read it yet; wait
    for a result of that step first.

    What goes wrong in the thread is raised where the next stack is asked for. Leaving the block stops the thread.

    Args:
        loader: what fills stacks.
        requests: drawn in the thread, one after the other, as far ahead as stacks are ready.
        ahead: stacks that are ready at most, 1 or more.
    """

    def __init__(self, loader: Loader, requests: Iterable[Request], ahead: int = 2) -> None:
        if ahead < 1:
            raise ValueError(f"ahead is {ahead}: give 1 or more")
        self._loader, self._requests = loader, iter(requests)
        self._ready: queue.Queue[Stack | BaseException | None] = queue.Queue(ahead)
        self._released: queue.SimpleQueue[Stack] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="volgrad-prefetch", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Stack]:
        return self

    def __next__(self) -> Stack:
        if self._ended:
            raise StopIteration
        found = self._ready.get()
        if isinstance(found, Stack):
            return found
        self._ended = True
        if found is None:
            raise StopIteration
        raise found

    def release(self, stack: Stack) -> None:
        """Hand back a stack whose memory may be overwritten from now on."""
        self._released.put(stack)

    def close(self) -> None:
        """Stop the thread; what it has ready is lost. The loader stays open."""
        self._stopped.set()
        self._ended = True
        self._thread.join()

    def _work(self) -> None:
        last: BaseException | None = None
        try:
            for start, steps, clusters in self._requests:
                if self._stopped.is_set():
                    return
                stack = self._loader.stack(start, steps, clusters, self._spare(steps, clusters))
                if not self._put(stack):
                    return
        except BaseException as error:  # noqa: BLE001 - nothing is swallowed: it is raised again by `__next__`
            last = error
        self._put(last)

    def _spare(self, steps: int, clusters: int) -> Stack | None:
        """A released stack of the right shape; others are let go."""
        wanted = (steps, clusters // self._loader.share.ranks, self._loader.rows)
        while True:
            try:
                stack = self._released.get_nowait()
            except queue.Empty:
                return None
            if stack.values.shape[:3] == wanted:
                return stack

    def _put(self, found: Stack | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(found, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
