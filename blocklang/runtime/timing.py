"""Timing on the GPU with CUDA events. Statistics and cache flushing are left to the caller."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress

from blocklang.runtime import cuda
from blocklang.runtime.errors import CudaError


class Event:
    """A point in a stream's work, in the context that is current when it is made."""

    def __init__(self) -> None:
        flags = cuda.driver().CUevent_flags.CU_EVENT_DEFAULT
        self._handle = cuda.call("cuEventCreate", int(flags))
        weakref.finalize(self, _destroy, int(self._handle)).atexit = False

    def record(self, stream: int = 0) -> None:
        """Mark this point after everything that `stream` has been given so far."""
        cuda.call("cuEventRecord", self._handle, stream)

    def milliseconds_since(self, earlier: Event) -> float:
        """Wait for this event and return the time between the two, in milliseconds."""
        cuda.call("cuEventSynchronize", self._handle)
        return float(cuda.call("cuEventElapsedTime", earlier._handle, self._handle))


def time_runs(
    run: Callable[[], object],
    repetitions: int,
    *,
    device: int = 0,
    before_each: Callable[[], object] | None = None,
) -> list[float]:
    """Milliseconds on the GPU of each of `repetitions` calls of `run`, on the current stream.

    `before_each` runs untimed before every call, such as to flush the cache. The first call of
    `run`, which compiles, should have happened before.
    """
    with cuda.activated(device):
        stream = cuda.current_stream(device)
        events = [(Event(), Event()) for _ in range(repetitions)]
        for start, end in events:
            if before_each is not None:
                before_each()
            start.record(stream)
            run()
            end.record(stream)
        return [end.milliseconds_since(start) for start, end in events]


def _destroy(handle: int) -> None:
    with suppress(CudaError):
        cuda.call("cuEventDestroy", handle)
