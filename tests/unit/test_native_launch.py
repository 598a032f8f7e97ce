"""Reference counts, lifetimes and threads around the native launch."""

import gc
import sys
import threading
import weakref

import pytest

from blocklang.runtime import fast, native
from blocklang.runtime.specialise import Parameter
from tests.unit.recording_driver import FakeTensor, launch_until_native, make, recording_driver

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
