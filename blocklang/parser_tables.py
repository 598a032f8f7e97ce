"""The tables of the `.bl` parser in the disk cache: a process builds them only where it is first.

Building takes longer than compiling a small kernel. The tables are a pickle; the cache is in a
folder that only its owner can write, and checks what it reads.
"""

from __future__ import annotations

import functools
import sys

import lark

from blocklang import __version__, cache
from blocklang.frontend import text

_FILE = "parser"


@functools.cache
def prepare_parser() -> None:
    """Let the parser use the tables of the cache, or put its own there; once in a process."""
    store = cache.Cache()
    key = cache.key(text.grammar(), lark.__version__, sys.version, __version__)
    tables = store.get(key, _FILE)
    if tables is not None:
        text.restore_parser(tables)
    else:
        store.put(key, {_FILE: text.save_parser()})
