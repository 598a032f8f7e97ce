"""What a process makes once, however many threads ask for it at the same time.

`functools.cache` runs a function again in every thread that asks while the first is at work, and
keeps the last result only. That is wrong for whatever others hold an address into.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Once(Generic[Made]):
    """A function without arguments that runs once; threads that call it meanwhile wait.

    An exception is raised to the caller and not remembered. `cache_clear()` forgets the result.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        functools.update_wrapper(self, make)
        self._make = functools.cache(make)
        # Reentrant, for handlers of signals and finalizers that ask in the middle of it.
        self._lock = threading.RLock()

    def __call__(self) -> Made:
        with self._lock:
            return self._make()

    def cache_clear(self) -> None:
        """Forget the result: the next call makes another one."""
        self._make.cache_clear()
