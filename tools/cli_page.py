"""The page `docs/cli.md`: the command line, from its own tables, with examples that tests run.

Every line that begins with `$ blc` in the page must work in a folder with the files of `docs/cli`
and an array `in.npy`; `tests/unit/cli/test_page.py` runs each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from blocklang.cli.arguments import COMMANDS, EXIT_CODES, Command, Option
from blocklang.cli.manifest import SCHEMA
from blocklang.cli.outputs import STAGES, Stage

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "cli"

_START = """\
# The command line

`blc` compiles, runs and checks kernels, in `.bl` files and in Python files. `python -m blocklang`
is the same command. It needs no GPU to compile for one.

Results go to the files that `-o` names, or to the standard output; everything else goes to standard
error. A file is written completely or not at all, and of several outputs all are written or none.

## By example

The examples use this file, `softmax.bl`:

```python
{kernel}```

### PTX, ahead of time

```console
$ blc softmax.bl --target sm_90a -o softmax.ptx -D BLOCK=1024
```

This writes `softmax.ptx`, and beside it what a program needs to launch it: the C header
`softmax.h` and the manifest `softmax.json` (`--no-sidecars` leaves them out). `-o` may be given
several times, and the suffix says what is written:

```console
$ blc softmax.bl --target sm_90a -o softmax.cubin -o softmax.ll -o softmax.ir
```

### What a kernel uses

```console
$ blc softmax.bl --target sm_90a -v -o softmax.cubin
$ blc softmax.bl --target sm_90a
```

The second line writes nothing, and reports the same: threads, registers, spills, shared memory with
the place of each buffer, occupancy, and how wide each access to global memory is.

### Looking into the compiler

```console
$ blc softmax.bl --target sm_90a --emit ptx
$ blc softmax.bl --target sm_90a --emit layout
$ blc softmax.bl --target sm_90a --dump-passes coalesce,vectorize -o softmax.ptx
$ blc softmax.bl --target sm_90a --stop-after assign-layouts
$ blc softmax.bl --target sm_90a --time-passes -o softmax.ptx
```

With `--dump-passes`, `--stop-after` or `--time-passes` nothing is taken from the cache of compiled
kernels.

### Native code

```console
$ blc softmax.bl -o softmax.o
$ blc softmax.bl --emit host
```

The object file is for the processor of this machine. Its function runs a range of the grid's
programs; the header says how.

### Running

```console
$ blc run softmax.bl x=in.npy y=empty:x row_stride=1000 n=1000 --grid 512 --save y=out.npy
$ blc run softmax.bl x=random:64x1000 y=zeros:x row_stride=1000 n=1000 --grid 64 --repeat 10
```

Arguments are numbers or arrays:

| Argument | Meaning |
| --- | --- |
| `n=1000`, `s=0.5`, `b=true`, `p=none` | a number, a truth value, no pointer |
| `x=in.npy` | the array in a file |
| `x=in.npy:bf16` | the same, of elements that `.npy` files have no name for |
| `y=zeros:512x1000:f32` | also `ones`, `empty`, `random`, `arange`; without a type `f32` |
| `y=empty:x` | a new array of the shape and type of the argument `x` |

Sizes of the grid may be computed: `--grid 'cdiv(n, BLOCK), 4'`. Kernels do not check addresses: a
wrong shape or stride can end the process.

### Checking

```console
$ blc check softmax.bl
```

finds mistakes in names and types in every kernel, one for each kernel, and ends with the exit code
1 if there are any. A kernel whose parameters have no types yet is left out, with a note, unless
`--signature` and `-D` give them.

### Kernels in Python

A Python file is executed, and its `@blocklang.jit` functions are the kernels. What it does besides
should stand under `if __name__ == "__main__":`. Parameters have no types there, so the command line
gives them, in Triton's spelling:

```console
$ blc scale.py --target sm_90a -o scale.ptx --signature x=*fp32:16,y=*fp32:16,n=i32,s=fp32
```

A number in place of a type (`n=1000`) is compiled in, and is no argument of the machine code then.

## Launching from C

The header needs no other but `<stdint.h>`, and is C99 and C++11. For a GPU:

```c
{launch}```

On a CPU:

```c
{call}```
"""


def cli_page(table: Table) -> str:
    """The Markdown of the page; `table` makes tables."""
    parts = [
        _START.format(
            kernel=_example("softmax.bl"),
            launch=_example("launch_softmax.c"),
            call=_example("call_softmax.c"),
        ),
        "## Commands\n",
        *(_command(command, table) for command in COMMANDS),
        "## Stages\n",
        "What `--emit` can print and `-o` can write:\n",
        table(("Stage", "Suffix", "Targets", "Meaning"), map(_stage, STAGES.values())),
        "## Exit codes\n",
        table(("Code", "Meaning"), ((f"{code:d}", text) for code, text in EXIT_CODES.items())),
        "## The manifest\n",
        "Every manifest agrees with this [JSON Schema](https://json-schema.org). A new `format` "
        "means\nthat a field has gone or means something else; fields may be added without.\n",
        f"```json\n{json.dumps(SCHEMA, indent=2)}\n```\n",
    ]
    return "\n".join(parts)


def _example(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


def _command(command: Command, table: Table) -> str:
    parts = [f"### `{command.usage}`\n", f"{command.summary}\n"]
    for title, options in command.groups:
        parts += [f"{title}:\n", table(("Option", "Meaning"), map(_option, options))]
    return "\n".join(parts)


def _option(option: Option) -> tuple[str, str]:
    if not option.names[0].startswith("-"):
        return f"`{option.metavar}`", option.help
    value = option.metavar
    if value and option.settings.get("nargs") == "?":
        value = f"[{value}]"
    return ", ".join(f"`{f'{name} {value}'.strip()}`" for name in option.names), option.help


def _stage(stage: Stage) -> tuple[str, str, str, str]:
    targets = {"cpu": "CPU", "nvptx": "GPU", "": "all"}[stage.backend]
    suffixes = ", ".join(f"`{suffix}`" for suffix in stage.suffixes)
    return f"`{stage.name}`", suffixes, targets, stage.meaning
