"""Mistakes in how a compilation is asked for (BL7xx): signatures, compile-time values, options.

The classes hold texts only; see `blocklang/ir/diagnostics.py`. Mistakes inside kernels are in
`blocklang/frontend/errors`, those of launches in `blocklang/runtime/errors.py`.
"""

from __future__ import annotations

from blocklang.ir.diagnostics import UserError


class RequestFamily(UserError):
    """Any of the errors below."""


class Unbound(RequestFamily):
    """A parameter has neither a type nor a value yet: the caller must say more."""


class NoValue(Unbound, code="BL701"):
    """Each compile-time parameter (`constexpr`) has a default, or gets a value from the caller."""

    message = "the compile-time parameter {name!r} of {kernel} has no value"
    help = "give it one: constexprs={{{name!r}: ...}}, or -D {name}=... with blc"
    example = "softmax.compile({'x': '*fp32'})"


class NoType(Unbound, code="BL702"):
    """Without arguments to look at, the type of each parameter must be stated.

    It stands in the kernel's signature or in that of the compilation.
    """

    message = "the type of {name!r} is not known"
    help = "state it: signature={{{name!r}: '*fp32:16'}}, or --signature {name}=*fp32:16 with blc"
    example = "add.compile(constexprs={'BLOCK': 1024})"


class NotAType(RequestFamily, code="BL703"):
    """Types of a signature are written as in Triton: `*` for each pointer, then the dtype.

    `:16` behind it says that the value, or the address, is divisible by 16.
    """

    message = "{text!r} is not a type"
    help = "write for example '*fp32:16', 'i32', 'i64:16' or a number"
    example = "add.compile({'x': '*fp33'})"


class UnknownParameter(RequestFamily, code="BL704"):
    """A signature and compile-time values name parameters of the kernel."""

    message = "{kernel} has no parameter {name!r}"
    help = "{instead}"
    example = "add.compile({'xx': '*fp32'})"


class FixedValue(RequestFamily, code="BL705"):
    """The fact `is N` of a `.bl` signature is a promise; launches are held to it."""

    message = "{name!r} must be {value}: the signature says so"
    help = "pass {value}"
    example = "kernel k(stride: i32 is 1): ...   launched with stride=2"


class NotDivisible(RequestFamily, code="BL706"):
    """The fact `divisible N` of a `.bl` signature is a promise; launches are held to it."""

    message = "{name!r} is not divisible by {divisor}, which the signature demands"
    help = (
        "pass {what}, or state less in the signature (launches know divisibility by {most} at most)"
    )
    example = "kernel k(n: i32 divisible 16): ...   launched with n=10"


class DefaultNotConstant(RequestFamily, code="BL707"):
    """The default of a parameter is known without running anything."""

    message = "a default value must be a literal, a constant or a dtype"
    help = "pass the value at the launch"
    example = "def kernel(x, n=len(sys.argv)): ..."


class UnknownCompileOption(RequestFamily, code="BL708"):
    """Besides its arguments a compilation has a fixed list of options."""

    message = "unknown option {name!r}"
    help = "options: {known}"
    example = "add.compile(types, num_warp=4)"


class OptionOutOfRange(RequestFamily, code="BL709"):
    """Options that are numbers have a range."""

    message = "{name} is {value!r}"
    help = "it is an integer from 1 to {highest}"
    example = "add.compile(types, num_stages=0)"


class WarpsNotPowerOfTwo(RequestFamily, code="BL710"):
    """Layouts spread blocks over the warps of a program bit by bit."""

    message = "{name} is {value}"
    help = "it is a power of two: 1, 2, 4, 8, ..."
    example = "add.compile(types, num_warps=3)"


class NotLoadable(RequestFamily, code="BL711"):
    """The command line imports a Python file to find its kernels, and that failed."""

    message = "{path} {what}: {problem}"
    help = "{instead}"
    example = "blc kernels.py   where kernels.py imports a package that is not installed"


class TuningFamily(RequestFamily):
    """Mistakes in what `autotune` and `heuristics` are told."""


class NotAKernel(TuningFamily, code="BL712"):
    """`autotune` and `heuristics` choose for a kernel: they stand above `jit`, in any order."""

    message = "{decorator} is given {found}, which is not a kernel"
    help = "decorate with @blocklang.{decorator}(...) above @blocklang.jit"
    example = "@blocklang.jit below which stands @blocklang.autotune(configs, key=['n'])"


class ChosenTwice(TuningFamily, code="BL713"):
    """What configurations or heuristics choose, launches leave out."""

    message = "{name!r} of {kernel} is chosen by {chooser}, and also given by the launch"
    help = "leave it out of one of the two"
    example = "scale[grid](x, n, BLOCK=64)   where the configurations set BLOCK"


class KeyNotPlain(TuningFamily, code="BL714"):
    """Configurations are remembered by the values of `key`; dtypes of arrays count by themselves.

    An array has no value to remember it by. What matters is a number, such as its length.
    """

    message = "the key {name!r} of {kernel} is {found}"
    help = "name a number, a string or a compile-time value, such as the size of the array"
    example = "@blocklang.autotune(configs, key=['x'])   where x is an array"


class NothingLeft(TuningFamily, code="BL715"):
    """Pruning leaves at least one configuration to launch with."""

    message = "{function} leaves no configuration of {kernel}"
    help = "let it return at least one of the {count} that it is given"
    example = "prune_configs_by={'early_config_prune': lambda configs, named: []}"


class UnknownPruning(TuningFamily, code="BL716"):
    """`prune_configs_by` has a fixed list of entries; `top_k` needs a `perf_model` to rank by."""

    message = "prune_configs_by {problem}"
    help = "entries: {known}"
    example = "prune_configs_by={'early_prune': prune}"


class NotResettable(TuningFamily, code="BL717"):
    """`reset_to_zero` and `restore_value` name arrays that can be written between runs."""

    message = "{option} names {name!r} of {kernel}, which is {found}"
    help = "name arrays of NumPy, torch, CuPy or blocklang that can be written"
    example = "@blocklang.autotune(configs, key=['n'], reset_to_zero=['n'])"


class NoConfigWorks(TuningFamily, code="BL718"):
    """Configurations that a target refuses are left out, but one of them has to work.

    Where all of them fail for one and the same reason, that error is raised instead.
    """

    message = "none of the {count} configurations of {kernel} works:\n{reasons}"
    help = "add a smaller configuration, or one for this target"
    example = "configurations that all need more shared memory than the GPU has"


class NotADescriptorType(RequestFamily, code="BL720"):
    """The type of a tensor descriptor names a dtype and the shape of its blocks.

    Sizes are powers of two: numbers, or compile-time parameters of the kernel. `, nan` before the
    last bracket pads floats with NaN instead of zero.
    """

    message = "the type of {name!r} is not that of a tensor descriptor"
    help = "write for example tensordesc<f16[64, 64]>, or tensordesc<f16[ROWS, 64], nan>"
    example = "kernel k(x: tensordesc<f16[48, 64]>): ..."


class OtherDescriptor(RequestFamily, code="BL721"):
    """A kernel is written for blocks of one shape and dtype, which its signature states."""

    message = "{name!r} is {given}, and the signature says {declared}"
    help = "make a descriptor of that kind, or pass the array itself"
    example = "kernel k(x: tensordesc<f16[64, 64]>): ...   launched with blocks of shape [32, 64]"


class OtherElement(RequestFamily, code="BL722"):
    """The dtype of an argument is not what a type parameter of the kernel is known to be.

    Where nothing is passed for a type parameter, or what is its default, the first array or tensor
    descriptor whose type names it says what it is.
    """

    message = "{name!r} is {given}, and {parameter} is {value} {because}"
    help = "pass arguments of one dtype, or give the kernel two type parameters"
    example = "kernel k(x: *T, y: *T, T: constexpr = f16): ...   launched with f32 and bf16"
