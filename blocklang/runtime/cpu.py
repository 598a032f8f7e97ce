"""Running the programs of a grid on the CPU's threads.

The contract with the code generator: a native function

    i32 range(parameters: ptr, grid_x: i64, grid_y: i64, grid_z: i64, begin: i64, end: i64,
              scratch: ptr)

runs the programs whose linear index, x fastest, is in [begin, end), and returns 0, or a status
of its own choosing that says what went wrong, such as the number of a failed assertion.
`parameters` are 8-byte slots (`submit.Packer`); `scratch` is memory of this thread alone, aligned
to 64 bytes and not cleared. Ranges run on several threads at a time, in any order, without the
interpreter lock.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np

from blocklang.environment import CPU_THREADS
from blocklang.runtime.errors import ProgramError

_ALIGNMENT = 64
# Chunks for each thread: enough to even out programs of unequal length, and each call of a range
# costs about a microsecond.
_CHUNKS_PER_THREAD = 8

_RANGE_TYPE = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, *(ctypes.c_int64,) * 5, ctypes.c_void_p
)

Range = Callable[..., int]


@dataclass(frozen=True)
class HostFunction:
    """A native range function at `address`, which stays valid while `owner` lives.

    `explain` turns a status that is not 0 into a sentence about the failed program.
    """

    name: str
    address: int
    scratch_bytes: int = 0
    explain: Callable[[int], str] | None = None
    owner: object = None
    _range: Range = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_range", _RANGE_TYPE(self.address))

    def run(self, grid: tuple[int, int, int], slots: int, threads: int | None = None) -> None:
        """Run every program of `grid` on up to `threads` threads, the calling one among them.

        `slots` is the address of the packed parameters. ProgramError gives the first status seen
        that is not 0; programs that have not begun by then do not run.
        """
        x, y, z = grid
        count = x * y * z
        # Counting the cores would cost a single program more than its launch.
        workers = 1 if count <= 1 else min(threads or thread_count(), count)
        if workers <= 1:
            status = 0
            if count:
                scratch = _scratch(self.scratch_bytes)
                status = self._range(slots, x, y, z, 0, count, scratch)
        else:
            status = _run_in_parallel(self, grid, slots, count, workers)
        if status:
            reason = self.explain(status) if self.explain else f"status {status}"
            raise ProgramError(f"a program of {self.name} stopped: {reason}", status)


def thread_count() -> int:
    """How many threads run programs: BLOCKLANG_CPU_THREADS, else the cores of this process."""
    chosen = CPU_THREADS.get()
    if chosen is not None:
        return chosen
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Job:
    """One launch: chunks still to run, and how many threads are at work on it."""

    def __init__(
        self, function: HostFunction, grid: tuple[int, int, int], slots: int, count: int, step: int
    ) -> None:
        self.function, self.grid, self.slots = function, grid, slots
        self.chunks = deque((b, min(b + step, count)) for b in range(0, count, step))
        self.status = 0
        self.error: BaseException | None = None
        self._active = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def work(self) -> None:
        """Run chunks until none is left; by any thread, also after the job has ended."""
        with self._lock:
            if not self.chunks:
                return
            self._active += 1
        try:
            scratch = _scratch(self.function.scratch_bytes)
            while True:
                begin, end = self.chunks.popleft()
                status = self.function._range(self.slots, *self.grid, begin, end, scratch)
                if status:
                    self.status = self.status or status
                    self.chunks.clear()
        except IndexError:
            pass
        except BaseException as error:
            self.error = self.error or error
            self.chunks.clear()
        with self._lock:
            self._active -= 1
            if not self._active:
                self._ended.set()

    def wait(self) -> None:
        """Return when no thread is at work on the job."""
        while True:
            try:
                self._ended.wait()
                return
            except BaseException as error:
                # An interrupt: native code still uses the caller's arrays, so first let it end.
                self.error = self.error or error
                self.chunks.clear()


def _run_in_parallel(
    function: HostFunction, grid: tuple[int, int, int], slots: int, count: int, workers: int
) -> int:
    step = max(1, count // (workers * _CHUNKS_PER_THREAD))
    job = _Job(function, grid, slots, count, step)
    _pool.invite(job, workers - 1)
    job.work()
    job.wait()
    if job.error is not None:
        raise job.error
    return job.status


class _Pool:
    """Daemon threads, made as they are first needed, that work on the jobs that they are given."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()

    def invite(self, job: _Job, threads: int) -> None:
        """Let `threads` threads work on `job` as soon as they are free."""
        if self._threads < threads:
            with self._lock:
                while self._threads < threads:
                    name = f"blocklang-cpu-{self._threads}"
                    threading.Thread(target=self._serve, name=name, daemon=True).start()
                    self._threads += 1
        for _ in range(threads):
            self._jobs.put(job)

    def _serve(self) -> None:
        while True:
            self._jobs.get().work()


_pool = _Pool()


def _forget_threads() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    # A forked child has none of its parent's threads, and perhaps a locked queue.
    os.register_at_fork(after_in_child=_forget_threads)


class _Scratch(threading.local):
    memory = np.empty(0, np.uint8)
    start = 0


_thread_scratch = _Scratch()


def _scratch(size: int) -> int | None:
    """The address of at least `size` bytes of the calling thread, kept and reused."""
    if not size:
        return None
    mine = _thread_scratch
    if mine.memory.size < size + _ALIGNMENT:
        mine.memory = np.empty(size + _ALIGNMENT, np.uint8)
        mine.start = -(-mine.memory.ctypes.data // _ALIGNMENT) * _ALIGNMENT
    return mine.start
