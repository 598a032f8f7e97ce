"""The CPU's thread pool, with range functions made by LLVM as the code generator makes them."""

import ctypes
import os
import sys
import threading
import time

import llvmlite.binding as llvm
import numpy as np
import pytest

from blocklang.runtime import cpu
from blocklang.runtime.errors import ProgramError

# Each program adds 1 to its own counter (slot 0) and stores its linear index + grid_x (slot 1);
# a program whose index is slot 2 fails with status 7. Program 0 stores `scratch` at slot 3.
PROGRAM = """
define i32 @range(ptr %p, i64 %gx, i64 %gy, i64 %gz, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %counts = load ptr, ptr %p
  %p1 = getelementptr i64, ptr %p, i64 1
  %indices = load ptr, ptr %p1
  %p2 = getelementptr i64, ptr %p, i64 2
  %bad = load i64, ptr %p2
  %p3 = getelementptr i64, ptr %p, i64 3
  %places = load ptr, ptr %p3
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %fine ]
  %done = icmp sge i64 %i, %end
  br i1 %done, label %out, label %body
body:
  %count = getelementptr i32, ptr %counts, i64 %i
  %old = load i32, ptr %count
  %new = add i32 %old, 1
  store i32 %new, ptr %count
  %index = getelementptr i64, ptr %indices, i64 %i
  %sum = add i64 %i, %gx
  store i64 %sum, ptr %index
  %place = getelementptr ptr, ptr %places, i64 %i
  store ptr %scratch, ptr %place
  %failed = icmp eq i64 %i, %bad
  br i1 %failed, label %fail, label %fine
fine:
  %next = add i64 %i, 1
  br label %loop
fail:
  ret i32 7
out:
  ret i32 0
}
"""

# Runs usleep(slot 0) for each program.
SLEEPER = """
declare i32 @usleep(i32)
define i32 @range(ptr %p, i64 %gx, i64 %gy, i64 %gz, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %time = load i32, ptr %p
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %body ]
  %done = icmp sge i64 %i, %end
  br i1 %done, label %out, label %body
body:
  %ignored = call i32 @usleep(i32 %time)
  %next = add i64 %i, 1
  br label %loop
out:
  ret i32 0
}
"""


def compiled(text, **keywords):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    address = engine.get_function_address("range")
    return cpu.HostFunction("sample", address, owner=engine, **keywords)


@pytest.fixture(scope="module")
def counting():
    return compiled(PROGRAM, scratch_bytes=1000, explain=lambda status: f"reason {status}")


class Arrays:
    def __init__(self, count, bad=-1):
        self.counts = np.zeros(count, np.int32)
        self.indices = np.zeros(count, np.int64)
        self.places = np.zeros(count, np.uint64)
        self.slots = (ctypes.c_uint64 * 4)(
            self.counts.ctypes.data, self.indices.ctypes.data, bad % 2**64, self.places.ctypes.data
        )
        self.address = ctypes.addressof(self.slots)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 1, 1), (7, 1, 1), (5, 4, 3), (1000, 3, 1)])
def test_every_program_runs_once(counting, grid, threads):
    count = grid[0] * grid[1] * grid[2]
    arrays = Arrays(count)
    counting.run(grid, arrays.address, threads)
    np.testing.assert_array_equal(arrays.counts, 1)
    np.testing.assert_array_equal(arrays.indices, np.arange(count) + grid[0])


def test_empty_grid_runs_nothing(counting):
    arrays = Arrays(4)
    counting.run((4, 0, 1), arrays.address, 2)
    assert not arrays.counts.any()


@pytest.mark.parametrize("threads", [1, 3])
def test_failed_program_stops_the_run(counting, threads):
    arrays = Arrays(3000, bad=1)
    with pytest.raises(ProgramError, match="a program of sample stopped: reason 7") as caught:
        counting.run((3000, 1, 1), arrays.address, threads)
    assert caught.value.status == 7
    assert arrays.counts.max() == 1
    assert arrays.counts.sum() < 3000
    arrays = Arrays(10)
    counting.run((10, 1, 1), arrays.address, threads)
    assert arrays.counts.all()


def test_failure_without_explanation():
    arrays, sample = Arrays(1, bad=0), compiled(PROGRAM)
    with pytest.raises(ProgramError, match="status 7"):
        sample.run((1, 1, 1), arrays.address)


def test_scratch_is_aligned_and_belongs_to_a_thread(counting):
    arrays = Arrays(64)
    counting.run((64, 1, 1), arrays.address, 4)
    assert not (arrays.places % 64).any()
    assert 1 <= len(set(arrays.places.tolist())) <= 4
    mine = Arrays(1)
    counting.run((1, 1, 1), mine.address, 4)
    other = Arrays(1)
    thread = threading.Thread(target=counting.run, args=((1, 1, 1), other.address))
    thread.start()
    thread.join()
    assert mine.places[0]
    assert mine.places[0] != other.places[0]


def test_threads_run_at_the_same_time():
    sleeper = compiled(SLEEPER)
    time_slot = (ctypes.c_uint64 * 1)(50_000)
    start = time.perf_counter()
    sleeper.run((4, 1, 1), ctypes.addressof(time_slot), 4)
    # Four sleeps of 50 ms one after another would take 200 ms.
    assert time.perf_counter() - start < 0.17


def test_launches_from_several_threads_at_once(counting):
    jobs = [Arrays(500) for _ in range(8)]
    threads = [
        threading.Thread(target=counting.run, args=((500, 1, 1), job.address, 3)) for job in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        np.testing.assert_array_equal(job.counts, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_pool_works_in_a_forked_child(counting):
    before = Arrays(8)
    counting.run((8, 1, 1), before.address, 3)
    child = os.fork()
    if not child:
        arrays = Arrays(100)
        counting.run((100, 1, 1), arrays.address, 3)
        os._exit(0 if (arrays.counts == 1).all() else 1)
    for _ in range(100):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the forked child hangs")
    assert os.waitstatus_to_exitcode(status) == 0


def test_thread_count_follows_the_environment(monkeypatch):
    monkeypatch.setenv("BLOCKLANG_CPU_THREADS", "3")
    assert cpu.thread_count() == 3
    monkeypatch.delenv("BLOCKLANG_CPU_THREADS")
    assert 1 <= cpu.thread_count() <= (os.cpu_count() or 1)


def test_interrupt_waits_for_running_programs(counting, monkeypatch):
    # Raise in the caller while it waits; the run must end before the interrupt comes out.
    arrays = Arrays(40)
    job_wait, interrupted = threading.Event.wait, []

    def wait(self, timeout=None):
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return job_wait(self, timeout)

    monkeypatch.setattr(threading.Event, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        cpu._run_in_parallel(counting, (40, 1, 1), arrays.address, 40, 1)
    assert arrays.counts.max() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the figure is for Linux")
def test_one_program_costs_little(counting):
    arrays = Arrays(1)
    best = min(
        _seconds(lambda: [counting.run((1, 1, 1), arrays.address) for _ in range(200)])
        for _ in range(5)
    )
    # Far above the few microseconds that it takes: a guard against starting threads for it.
    assert best / 200 < 100e-6


def _seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
