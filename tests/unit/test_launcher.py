"""The launch path, general and native, on a driver that records what it is asked to launch."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from blocklang.runtime import arrays, cuda, errors, native
from blocklang.runtime.specialise import ArgumentFacts, Parameter
from tests.unit.recording_driver import (
    FakeTensor,
    compile_for,
    launch_until_native,
    make,
    recording_driver,
)

BLOCK = Parameter("BLOCK", constexpr=True)


@pytest.fixture
def driver(monkeypatch):
    with recording_driver(monkeypatch) as made:
        yield made


def test_both_paths_launch_the_same(driver):
    launcher, seen = make("x", "y", "n", "scale", "flag", BLOCK)
    x, y = FakeTensor(1 << 40), FakeTensor(4104, "torch.float16")
    driver.wanted.value = 5
    recorded = []
    for _ in range(5):
        kernel = launcher[(3, 2)](x, y, 2**40 + 16, 1.5, True, BLOCK=64)
        slots = list(driver.slots)[:5]
        slots[3] &= 2**32 - 1
        slots[4] &= 255
        recorded.append((list(driver.shape)[:7], list(driver.handles), slots))
        assert kernel.specialisation is seen[0]
    assert len(seen) == 1
    assert driver.general == 3
    assert driver.native == 2
    one_and_a_half = int.from_bytes(np.float32(1.5).tobytes(), "little")
    shape = [3, 2, 1, 128, 1, 1, 2048]
    expected = (shape, [55, 1000], [1 << 40, 4104, 2**40 + 16, one_and_a_half, 1])
    assert recorded == [expected] * 5


def test_facts(driver):
    launcher, seen = make("x", "y", "n", "one", "wide", "flag", "f", "nothing", BLOCK)
    launcher[4](
        FakeTensor(32, "torch.bfloat16"), FakeTensor(8), 48, 1, 2**40, False, 2.0, None, BLOCK=7
    )
    assert seen[0].device == 0
    assert seen[0].options == (("num_warps", 4),)
    assert seen[0].arguments == (
        ArgumentFacts("array", "bf16", 16),
        ArgumentFacts("array", "f32", 1),
        ArgumentFacts("integer", "i32", 16),
        ArgumentFacts("integer", "i32", 1, True),
        ArgumentFacts("integer", "i64", 16),
        ArgumentFacts("boolean", "i1"),
        ArgumentFacts("float", "f32"),
        ArgumentFacts("none"),
        ArgumentFacts("constexpr", value=7),
    )


VALUES = [
    ({"n": 16}, {"n": 17}),
    ({"n": 16}, {"n": 24}),
    ({"n": 40}, {"n": 44}),
    ({"n": 16}, {"n": 2**40}),
    ({"n": 2}, {"n": 1}),
    ({"n": 2}, {"n": 2.0}),
    ({"n": 1}, {"n": True}),
    ({"n": 2}, {"n": None}),
    ({"n": 2**31}, {"n": 2**63}),
    ({"BLOCK": 1}, {"BLOCK": True}),
    ({"BLOCK": 1}, {"BLOCK": 1.0}),
    ({"BLOCK": 0.0}, {"BLOCK": -0.0}),
    ({"BLOCK": (1, 2)}, {"BLOCK": (1, 2.0)}),
    ({"BLOCK": "a"}, {"BLOCK": "b"}),
    ({"BLOCK": None}, {"BLOCK": 0}),
    ({"BLOCK": 2**80}, {"BLOCK": 2**81}),
    ({"num_warps": 4}, {"num_warps": 8}),
    ({"x": FakeTensor(16)}, {"x": FakeTensor(8)}),
    ({"x": FakeTensor(16)}, {"x": FakeTensor(16, "torch.float16")}),
    ({"x": FakeTensor(16)}, {"x": FakeTensor(16, device=1)}),
]


@pytest.mark.parametrize(("first", "second"), VALUES)
def test_whatever_matters_makes_another_kernel(driver, first, second):
    launcher, seen = make("x", "n", BLOCK)
    common = {"x": FakeTensor(16), "n": 3, "BLOCK": 64}

    def launch(changes):
        return launcher[(1,)](**{**common, **changes}).specialisation

    for _ in range(5):
        assert launch(first) is seen[0]
    other = launch(second)
    assert other is seen[1]
    for _ in range(5):
        assert launch(first) is seen[0]
        assert launch(second) is seen[1]
    assert len(seen) == 2


def test_what_does_not_matter_makes_no_other_kernel(driver):
    launcher, seen = make(
        Parameter("x", specialize_alignment=False), Parameter("n", specialize=False), "m", BLOCK
    )
    for address, n, m, text in [
        (16, 1, 3, "ab"),
        (8, 16, 5, "".join(["a", "b"])),
        (4, 24, 7, "ab"),
    ]:
        for _ in range(3):
            launcher[(1,)](FakeTensor(address), n, m, text)
    assert len(seen) == 1
    assert seen[0].arguments[0] == ArgumentFacts("array", "f32", 1)
    assert seen[0].arguments[1] == ArgumentFacts("integer", "i32", 1, False)
    if native.available():
        # One for each of the two strings.
        assert 1 <= len(launcher._fast._cache) <= 2


def test_grids(driver):
    launcher, _ = make("x", "n", BLOCK)
    given = []

    def grid_of(meta):
        given.append(meta)
        return (meta["n"] // meta["BLOCK"], 2)

    grids = [
        (5, [5, 1, 1]),
        ((5,), [5, 1, 1]),
        ([5, 6], [5, 6, 1]),
        ((5, 6, 7), [5, 6, 7]),
        ((np.int64(5),), [5, 1, 1]),
        (lambda meta: 9, [9, 1, 1]),
        (grid_of, [4, 2, 1]),
    ]
    x = FakeTensor()
    for grid, expected in grids * 3:
        launcher[grid](x, 256, BLOCK=64)
        assert list(driver.shape)[:3] == expected
    assert given[0] == {"x": x, "n": 256, "BLOCK": 64, "num_warps": 4}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ((), "0 axes"),
        ((1, 2, 3, 4), "4 axes"),
        ((-1,), "sizes are 0 or more"),
        ((1.5,), "a grid is an integer"),
        ("text", "a grid is an integer"),
        ((2**31,), "2147483648 programs along x"),
        ((1, 65536), "65536 programs along y"),
        ((1, 1, 2**70), "along z"),
    ],
)
def test_bad_grids(driver, grid, message):
    launcher, _ = make("x")
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))
    count = driver.general + driver.native
    with pytest.raises(errors.GridError, match=message):
        launcher[grid](FakeTensor())
    assert driver.general + driver.native == count


@pytest.mark.parametrize("grid", [0, (0,), (4, 0), (4, 5, 0)])
def test_empty_grids_launch_nothing(driver, grid):
    launcher, seen = make("x")
    for _ in range(5):
        assert launcher[grid](FakeTensor()).specialisation is seen[0]
    assert driver.general == driver.native == 0


def test_streams(driver):
    launcher, _ = make("x")
    x = FakeTensor()
    stream = SimpleNamespace(cuda_stream=31)
    protocol = SimpleNamespace(__cuda_stream__=lambda: (0, 32))
    for given, handle in [(None, 1000), (0, 0), (30, 30), (stream, 31), (protocol, 32)] * 3:
        launcher[(1,)](x, stream=given)
        assert driver.handles[1] == handle
    with pytest.raises(errors.StreamError, match="not a CUDA stream"):
        launcher[(1,)](x, stream="fast")


def test_another_context_goes_the_general_way(driver, monkeypatch):
    launcher, _ = make("x")
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))
    general = driver.general
    driver.context.value = 78
    launcher[(1,)](FakeTensor())
    assert driver.general == general + 1


def test_refused_launch_is_explained(driver):
    launcher, _ = make("x")
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))
    driver.status.value = 999
    with pytest.raises(errors.CudaError) as caught:
        launcher[(7,)](FakeTensor())
    text = str(caught.value)
    assert "launching sample with 7 x 1 x 1 programs of 128 threads failed" in text
    assert "a sample error (CUDA_ERROR_SAMPLE, 999)" in text
    assert caught.value.number == 999
    driver.status.value = 0
    launcher[(1,)](FakeTensor())


def test_argument_errors(driver):
    launcher, seen = make("x", "y", Parameter("n", dtype="i32"), BLOCK)
    good = {"x": FakeTensor(), "y": FakeTensor(), "n": 5, "BLOCK": 64}
    launch_until_native(driver, lambda: launcher[(1,)](**good))

    def failing(kind, message, *arguments, **keywords):
        for _ in range(2):
            with pytest.raises(kind, match=message) as caught:
                launcher[(1,)](*arguments, **keywords)
        return caught.value

    failing(errors.MissingArgumentError, "'n'", FakeTensor(), FakeTensor())
    failing(errors.MissingConstexprError, "'BLOCK'", FakeTensor(), FakeTensor(), 5)
    failing(errors.UnexpectedArgumentError, "takes 4 arguments, but 5", 1, 2, 3, 4, 5)
    close = failing(errors.UnexpectedArgumentError, "num_warp", **good, num_warp=8)
    assert "did you mean 'num_warps'" in str(close)
    failing(errors.ArgumentTypeError, "'x' of sample", **{**good, "x": "text"})
    failing(errors.ArgumentTypeError, "'BLOCK' of sample", **{**good, "BLOCK": [1]})
    failing(errors.ArgumentRangeError, "does not fit its type i32", **{**good, "n": 2**31})
    failing(errors.ArgumentTypeError, "number \\(i32\\), not the float", **{**good, "n": 0.5})
    mixed = failing(errors.MixedPlacesError, "'y' is on the host", **{**good, "y": np.zeros(1)})
    assert "'x' is on GPU 0" in str(mixed)
    failing(errors.MixedPlacesError, "on GPU 1", **{**good, "y": FakeTensor(device=1)})
    failing(errors.ArgumentTypeError, "None", **{**good, "n": None})
    assert len(seen) == 1


def test_mixed_gpus_after_a_launch_on_each(driver):
    launcher, _ = make("x", "y")
    zero, one = FakeTensor(device=0), FakeTensor(device=1)
    for x in (zero, one):
        launch_until_native(driver, lambda x=x: launcher[(1,)](x, x))
    for pair in ((zero, one), (one, zero)):
        with pytest.raises(errors.MixedPlacesError):
            launcher[(1,)](*pair)


def test_declared_types(driver):
    launcher, seen = make(
        Parameter("x", dtype="*f16"),
        Parameter("n", dtype="i64"),
        Parameter("s", dtype="f64"),
        Parameter("h", dtype="bf16"),
    )
    driver.wanted.value = 4
    half = FakeTensor(16, "torch.float16")
    for _ in range(5):
        launcher[(1,)](half, 3, 2, 1.0 + 1 / 128)
        assert driver.slots[1] == 3
        assert driver.slots[2] == int.from_bytes(np.float64(2).tobytes(), "little")
        assert driver.slots[3] == 0x3F81
    assert [facts.dtype for facts in seen[0].arguments] == ["f16", "i64", "f64", "bf16"]
    with pytest.raises(errors.ArgumentTypeError, match=r"array of f16, not an array of f32"):
        launcher[(1,)](FakeTensor(), 3, 2, 1.0)


def test_floats_round_to_infinity(driver):
    launcher, _ = make("x", "s", Parameter("half", dtype="f16"))
    plain, _ = make("x", "s")
    driver.wanted.value = 2
    infinity = int.from_bytes(np.float32("inf").tobytes(), "little")
    for _ in range(5):
        plain[(1,)](FakeTensor(), 1e300)
        assert driver.slots[1] & (2**32 - 1) == infinity
        launcher[(1,)](FakeTensor(), -1e300, 1e6)
        assert driver.slots[1] & (2**32 - 1) == infinity | 1 << 31
    assert driver.native > 0 or not native.available()


def test_a_method_that_raises_is_explained(driver):
    launcher, _ = make("x")
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor()))

    class Broken(FakeTensor):
        def data_ptr(self):
            raise RuntimeError("has no storage")

    broken = FakeTensor()
    broken.__class__ = Broken
    with pytest.raises(RuntimeError, match="has no storage"):
        launcher[(1,)](broken)
    launcher[(1,)](FakeTensor())


def test_host_launch(driver):
    launcher, seen = make("x", "n", "s", BLOCK)
    x = np.zeros(4, np.float32)
    kernel = launcher[(2, 3)](x, -5, 0.5, BLOCK=4)
    assert seen[0].device == arrays.HOST
    ((grid, slots),) = kernel.host_launches
    assert grid == (2, 3, 1)
    bits = int.from_bytes(np.float32(0.5).tobytes(), "little")
    assert slots == [x.ctypes.data, 2**32 - 5, bits]
    # Grids of the CPU have no limit of their own.
    launcher[(1, 70000)](x, -5, 0.5, BLOCK=4)
    launcher[(0,)](x, -5, 0.5, BLOCK=4)
    assert len(kernel.host_launches) == 2
    assert driver.general == driver.native == 0


def test_read_only_array(driver):
    def writes_first(specialisation):
        kernel = compile_for(specialisation)
        kernel.written = frozenset({0})
        return kernel

    launcher, _ = make("x", "y", slow_path=writes_first)
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    launcher[1](np.zeros(4), frozen)
    with pytest.raises(errors.ReadOnlyArrayError, match="sample writes to 'x'"):
        launcher[1](frozen, frozen)


def test_without_arrays(driver, monkeypatch):
    launcher, seen = make("n")
    monkeypatch.setattr(cuda, "available", lambda: False)
    assert launcher[1](5).host_launches
    monkeypatch.setattr(cuda, "available", lambda: True)
    monkeypatch.setattr(cuda, "current_device", lambda: 3)
    launcher[1](5)
    assert [s.device for s in seen] == [arrays.HOST, 3]


def test_parameters_hide_options_and_our_names(driver):
    names = ["stream", "num_warps", "_grid", "__fast", "launch"]
    launcher, seen = make(*names, options={"num_warps": 4, "num_stages": 3})
    for _ in range(4):
        launcher[(1,)](FakeTensor(), 2, 3, 4, launch=5, num_stages=2)
    assert seen[0].options == (("num_stages", 2),)
    assert len(seen) == 1
    assert launcher.run.__name__ == "sample"


def test_defaults(driver):
    launcher, seen = make("x", Parameter("n", default=7), Parameter("B", True, default=(1, 2)))
    launcher[1](FakeTensor())
    assert seen[0].arguments[1:] == (
        ArgumentFacts("integer", "i32"),
        ArgumentFacts("constexpr", value=(1, 2)),
    )


def test_one_thread_compiles(driver):
    started, release = threading.Event(), threading.Event()

    def slow(specialisation):
        started.set()
        release.wait(5)
        return compile_for(specialisation)

    launcher, seen = make("x", slow_path=slow)
    threads = [threading.Thread(target=launcher[1], args=(FakeTensor(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert started.wait(5)
    release.set()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert driver.general == 4


def test_failed_compilation_is_tried_again(driver):
    attempts = []

    def failing(specialisation):
        attempts.append(specialisation)
        raise ValueError("no")

    launcher, _ = make("x", slow_path=failing)
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            launcher[1](FakeTensor())
    assert len(attempts) == 3


def test_without_the_native_path(driver, monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    launcher, _ = make("x")
    for _ in range(5):
        launcher[(1,)](FakeTensor())
    assert (driver.general, driver.native) == (5, 0)
