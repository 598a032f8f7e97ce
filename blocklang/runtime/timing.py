"""Timing: of work on a GPU with CUDA events or as CUDA graphs, of work on the CPU with the clock.

How often to run, and what the samples say, is left to the caller (`blocklang.testing`).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import perf_counter
from typing import Any

import numpy as np

from blocklang.runtime import cuda
from blocklang.runtime.arrays import HOST
from blocklang.runtime.errors import CudaError
from blocklang.runtime.memory import DeviceArray

# Several times the second-level cache of any GPU so far.
_FLUSHED_BYTES = 256 * 1024 * 1024

Action = Callable[[], object]


class Event:
    """A point in a stream's work, in the context that is current when it is made."""

    def __init__(self) -> None:
        flags = cuda.driver().CUevent_flags.CU_EVENT_DEFAULT
        self._handle = cuda.call("cuEventCreate", int(flags))
        weakref.finalize(self, _destroy, "cuEventDestroy", int(self._handle)).atexit = False

    def record(self, stream: int = 0) -> None:
        """Mark this point after everything that `stream` has been given so far."""
        cuda.call("cuEventRecord", self._handle, stream)

    def milliseconds_since(self, earlier: Event) -> float:
        """Wait for this event and return the time between the two, in milliseconds."""
        cuda.call("cuEventSynchronize", self._handle)
        return float(cuda.call("cuEventElapsedTime", earlier._handle, self._handle))


class CacheFlush:
    """Calling it leaves nothing of earlier work in the second-level cache of GPU `device`."""

    def __init__(self, device: int) -> None:
        size = max(_FLUSHED_BYTES, 4 * cuda.device(device).l2_bytes)
        self._memory = DeviceArray((size,), np.uint8, device)

    def __call__(self) -> None:
        memory = self._memory
        stream = cuda.current_stream(memory.get_device())
        cuda.call("cuMemsetD8Async", memory.data_ptr(), 0, memory.nbytes, stream)


class Graph:
    """The work that `run(stream)` gives to a stream, `repetitions` times, as one CUDA graph.

    `stream` must not be the default one. Work that `run` gives to other streams is not captured.
    """

    def __init__(self, run: Callable[[int], object], stream: int, repetitions: int = 1) -> None:
        # Relaxed: loading code and allocating memory are allowed while work is captured.
        mode = cuda.driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        cuda.call("cuStreamBeginCapture", stream, mode)
        try:
            for _ in range(repetitions):
                run(stream)
        except BaseException:
            with suppress(CudaError):
                cuda.call("cuStreamEndCapture", stream)
            raise
        graph = cuda.call("cuStreamEndCapture", stream)
        try:
            self._handle = cuda.call("cuGraphInstantiate", graph, 0)
        finally:
            cuda.call("cuGraphDestroy", graph)
        weakref.finalize(self, _destroy, "cuGraphExecDestroy", int(self._handle)).atexit = False
        self._stream = stream

    def launch(self) -> None:
        """Give the work to the stream."""
        cuda.call("cuGraphLaunch", self._handle, self._stream)


@contextmanager
def side_stream(device: int) -> Iterator[int]:
    """Run a `with` body in which torch and CuPy, where loaded, work on a new stream of GPU
    `device`; yields its handle.
    """
    torch: Any = sys.modules.get("torch")
    cupy: Any = sys.modules.get("cupy")
    with cuda.activated(device), ExitStack() as stack:
        flags = int(cuda.driver().CUstream_flags.CU_STREAM_DEFAULT)
        handle = int(cuda.call("cuStreamCreate", flags))
        stack.callback(_destroy, "cuStreamDestroy", handle)
        if hasattr(torch, "cuda"):
            external = torch.cuda.ExternalStream(handle, device=device)
            stack.enter_context(torch.cuda.stream(external))
        if cupy is not None:
            stack.enter_context(cupy.cuda.ExternalStream(handle))
        yield handle
        cuda.synchronize(handle)


def time_runs(
    run: Action,
    repetitions: int,
    *,
    device: int = 0,
    stream: int | None = None,
    before_each: Action | None = None,
    after_each: Action | None = None,
) -> list[float]:
    """Milliseconds of each of `repetitions` calls of `run`.

    `device` is a GPU's number, for the time on the GPU of what `run` gives to `stream` (by default
    the current one), or HOST, for the time that the call takes. `before_each` and `after_each` run
    untimed around every call, such as to flush the cache. The first call of `run`, which compiles,
    should have happened before.
    """
    before, after = before_each or _nothing, after_each or _nothing
    if device == HOST:
        return [_time_on_host(run, before, after) for _ in range(repetitions)]
    with cuda.activated(device):
        chosen = cuda.current_stream(device) if stream is None else stream
        events = [(Event(), Event()) for _ in range(repetitions)]
        for start, end in events:
            before()
            start.record(chosen)
            run()
            end.record(chosen)
            after()
        return [end.milliseconds_since(start) for start, end in events]


def _time_on_host(run: Action, before: Action, after: Action) -> float:
    before()
    start = perf_counter()
    run()
    elapsed = perf_counter() - start
    after()
    return 1000 * elapsed


def _nothing() -> None:
    pass


def _destroy(function: str, handle: int) -> None:
    with suppress(CudaError):
        cuda.call(function, handle)
