"""Reference counts, lifetimes, threads and exceptions around the native launch."""

import dataclasses
import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from blocklang.runtime import fast, native
from blocklang.runtime.once import Once
from blocklang.runtime.specialise import Parameter
from tests.unit.recording_driver import (
    FakeTensor,
    compile_for,
    launch_until_native,
    make,
    recording_driver,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="no native path here")

BLOCK = Parameter("BLOCK", constexpr=True)


@pytest.fixture
def driver(monkeypatch):
    with recording_driver(monkeypatch) as made:
        yield made


def test_counts_stay(driver):
    launcher, _ = make("x", "n", BLOCK)
    x, block, kernel = FakeTensor(), "text of a block", None
    kernel = launch_until_native(driver, lambda: launcher[(1,)](x, 1000, BLOCK=block))
    watched = (x, x.dtype, block, kernel, None, True, 1000)
    before = [sys.getrefcount(value) for value in watched]
    blocks = sys.getallocatedblocks()
    for _ in range(300):
        launcher[(1,)](x, 1000, BLOCK=block)
    for _ in range(300):
        launcher[(0,)](x, 1000, BLOCK=block)
    after = [sys.getrefcount(value) for value in watched]
    assert sys.getallocatedblocks() - blocks < 100
    assert all(abs(a - b) < 50 for a, b in zip(after, before, strict=True))


def test_counts_stay_where_launches_are_unusual(driver):
    """Of what is looked at before the native path gives up, and of what makes it do so."""
    launcher, _ = make("x", "n", BLOCK)
    x = FakeTensor()
    launch_until_native(driver, lambda: launcher[(1,)](x, 1000, BLOCK=2))
    unusual = [
        (((1, 1, 1, 1), None, x, 1000, 2, 4), True),
        (((2**40,), None, x, 1000, 2, 4), True),
        (((1,), None, x, 2**70, 2, 4), True),
        (((1,), None, FakeTensor(device=-1), 1000, 2, 4), True),
        (((1,), None, object(), 1000, 2, 4), True),
        (((1,), 2**70, x, 1000, 2, 4), True),
        (((1,), "a stream", x, 1000, 2, 4), True),
        (((1,), None, x, 1000, 2), True),
        (((1,), None, x, 1000, 3, 4), False),
    ]
    launch = launcher._fast.launch
    watched = [x, *(value for values, _ in unusual for value in values)]
    before = [sys.getrefcount(value) for value in watched]
    blocks = sys.getallocatedblocks()
    for _ in range(300):
        for values, empty in unusual:
            outcome = launch(*values)
            assert (type(outcome), not outcome) == (bytes, empty)
    outcome = None
    after = [sys.getrefcount(value) for value in watched]
    assert sys.getallocatedblocks() - blocks < 100
    assert all(abs(a - b) < 50 for a, b in zip(after, before, strict=True))


def test_compile_time_objects_stay_alive_with_their_key(driver):
    launcher, seen = make("x", BLOCK)

    class Token:
        pass

    token = Token()
    reference = weakref.ref(token)
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor(), BLOCK=token))
    seen.clear()
    token = None
    gc.collect()
    assert reference() is not None


def test_arrays_do_not_stay_alive(driver):
    launcher, _ = make("x", BLOCK)
    x = FakeTensor()
    reference = weakref.ref(x)
    launch_until_native(driver, lambda: launcher[(1,)](x, BLOCK=1))
    x = None
    gc.collect()
    assert reference() is None


def test_cache_is_bounded(driver, monkeypatch):
    monkeypatch.setattr(fast, "_MOST_ENTRIES", 10)
    launcher, _ = make("x", BLOCK)
    for i in range(50):
        launcher[(1,)](FakeTensor(), BLOCK=i)
    assert len(launcher._fast._cache) <= 10


def test_launcher_is_released(driver):
    launcher, _ = make("x")
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))
    reference = weakref.ref(launcher)
    launcher = None
    gc.collect()
    assert reference() is None


def test_threads_at_once(driver):
    launcher, seen = make("x", "n", BLOCK)
    failures = []

    def work(block):
        x = FakeTensor()
        for i in range(300):
            kernel = launcher[(1,)](x, i + 2, BLOCK=block)
            if kernel.specialisation.arguments[2].value != block:
                failures.append(block)

    threads = [threading.Thread(target=work, args=(block,)) for block in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    # Divisible by 16, by 8 or not, for each of four blocks.
    assert len(seen) == 12


# ---------------------------------------------------------------- what machine code depends on


def run_in_a_process(program):
    """Run a program that would bring its process down; what it prints."""
    prelude = """
import gc, threading, time
import pytest
from blocklang.runtime import fast, native, native_stub
from tests.unit.recording_driver import FakeTensor, launch_until_native, make, recording_driver
"""
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", prelude + program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_threads_that_are_the_first_to_launch():
    """As where an autotuner compiles its configurations before anything has been launched."""
    program = """
compile_stub, calls = native_stub.compile_stub, []

def slowly(*sizes):
    calls.append(sizes)
    compiled = compile_stub(*sizes)
    time.sleep(0.2)
    return compiled

native_stub.compile_stub = slowly
with pytest.MonkeyPatch.context() as patch, recording_driver(patch) as driver:
    launcher, _ = make("x")
    together = threading.Barrier(4)

    def work():
        together.wait()
        launcher[(0,)](FakeTensor())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    for _ in range(4):
        launcher[(1,)](FakeTensor())
    print(len(calls), driver.native > 0)
"""
    assert run_in_a_process(program) == ["1", "True"]


def test_machine_code_lives_as_long_as_its_functions():
    program = """
with pytest.MonkeyPatch.context() as patch, recording_driver(patch) as driver:
    launcher, _ = make("x")
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))
    before = driver.native
    native._compiled.cache_clear()
    fast._environment.cache_clear()
    gc.collect()
    launcher[(1,)](FakeTensor())
    print(driver.native - before)
"""
    assert run_in_a_process(program) == ["1"]


def test_functions_keep_what_the_environment_has_the_addresses_of(driver):
    launcher, _ = make("x")
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))
    reference = weakref.ref(fast._environment())
    fast._environment.cache_clear()
    gc.collect()
    assert reference() is not None
    launcher = None
    gc.collect()
    assert reference() is None


class LoadedLate:
    """A kernel that is loaded when it is asked for its function, by whoever asks before it is."""

    def __init__(self, kernel):
        self.kernel, self.loads = kernel, 0

    def __getattr__(self, name):
        if name != "function":
            return getattr(self.kernel, name)
        self.loads += 1
        time.sleep(0.05)
        self.function = dataclasses.replace(self.kernel.function)
        return self.function


def test_threads_that_launch_first_load_once(driver):
    launcher, _ = make("x", slow_path=lambda facts: LoadedLate(compile_for(facts)))
    together, kernels = threading.Barrier(4), []

    def work():
        together.wait()
        kernels.append(launcher[(1,)](FakeTensor()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [kernel.loads for kernel in kernels] == [1] * 4


def test_entries_keep_what_they_launch_loaded(driver):
    """Whatever function the kernel has later."""
    launcher, _ = make("x")
    kernel = launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))
    reference = weakref.ref(kernel.function)
    kernel.function = dataclasses.replace(kernel.function, handle=56)
    gc.collect()
    assert reference() is not None
    launcher[(1,)](FakeTensor())
    assert driver.handles[0] == 55
    launcher._fast._cache.clear()
    gc.collect()
    assert reference() is None


def test_made_once_for_all_threads():
    made, together = [], threading.Barrier(4)

    @Once
    def thing():
        """A sample."""
        time.sleep(0.05)
        return object()

    def work():
        together.wait()
        made.append(thing())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(made)) == 1
    assert (thing(), thing.__doc__) == (made[0], "A sample.")
    thing.cache_clear()
    assert thing() is not made[0]


def test_a_failure_is_not_what_was_made():
    results = [ValueError("a sample"), 5]

    @Once
    def thing():
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    with pytest.raises(ValueError, match="a sample"):
        thing()
    assert (thing(), thing()) == (5, 5)


def test_the_stream_of_a_library_is_known_before_its_arrays(driver, monkeypatch):
    """Another thread may launch in between."""
    environment = fast._environment()
    seen = []

    class Other(FakeTensor):
        pass

    def stream_of(device):
        return 2000

    def address(value):
        if value is Other:
            seen.append(environment.fields.stream_getter == id(stream_of))
        return id(value)

    torch = sys.modules["torch"]
    monkeypatch.setattr(torch, "Tensor", Other)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", stream_of)
    monkeypatch.setattr(fast, "id", address, raising=False)
    environment.refresh()
    assert seen == [True]


def test_what_was_found_earlier_replaces_nothing(driver, monkeypatch):
    """Two threads look at a time, one before and one after a library has been loaded."""
    environment = fast._environment()
    early, late = threading.Event(), threading.Event()

    def stream_of(device):
        return 2000

    def getter():
        if threading.current_thread() is thread:
            early.set()
            late.wait(0.2)
            return None
        return stream_of

    monkeypatch.setattr(fast.cuda, "torch_stream_getter", getter)
    thread = threading.Thread(target=environment.refresh)
    thread.start()
    early.wait()
    environment.refresh()
    late.set()
    thread.join()
    assert environment.fields.stream_getter == id(stream_of)


# ---------------------------------------------------------------- exceptions


class Interrupting(FakeTensor):
    """A tensor whose method raises the exceptions in `pending` first."""

    def __init__(self, *pending):
        super().__init__()
        self.pending = list(pending)

    def data_ptr(self):
        if self.pending:
            raise self.pending.pop()
        return super().data_ptr()


@pytest.fixture
def interrupting(driver, monkeypatch):
    """`make` and `driver` where tensors are `Interrupting`."""
    monkeypatch.setattr(sys.modules["torch"].nn, "Parameter", Interrupting)
    return driver


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_are_raised(interrupting, kind):
    launcher, _ = make("x")
    launch_until_native(interrupting, lambda: launcher[(1,)](Interrupting()))
    counted = interrupting.native, interrupting.general
    with pytest.raises(kind):
        launcher[(1,)](Interrupting(kind()))
    assert (interrupting.native, interrupting.general) == counted
    launcher[(1,)](Interrupting())
    assert interrupting.native == counted[0] + 1


def test_other_exceptions_are_left_to_the_general_path(interrupting):
    launcher, _ = make("x")
    launch_until_native(interrupting, lambda: launcher[(1,)](Interrupting()))
    counted = interrupting.native, interrupting.general
    launcher[(1,)](Interrupting(ValueError("once")))
    assert (interrupting.native, interrupting.general) == (counted[0], counted[1] + 1)
    with pytest.raises(ValueError, match="twice"):
        launcher[(1,)](Interrupting(ValueError("twice"), ValueError("once")))


def test_interrupts_of_the_stream_are_raised(driver, monkeypatch):
    """After the entry has been found, which must not be lost."""
    launcher, _ = make("x")
    kernel = launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))
    pending = []

    def stream_of(device):
        if pending:
            raise pending.pop()
        return 1000 + device

    monkeypatch.setattr(sys.modules["torch"]._C, "_cuda_getCurrentRawStream", stream_of)
    fast._environment().refresh()
    (entry,) = launcher._fast._cache.values()
    before = [sys.getrefcount(each) for each in (entry, kernel)]
    for _ in range(100):
        pending.append(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            launcher[(1,)](FakeTensor())
    after = [sys.getrefcount(each) for each in (entry, kernel)]
    assert all(abs(a - b) < 10 for a, b in zip(after, before, strict=True))
