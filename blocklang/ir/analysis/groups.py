"""Groups of asynchronous work that finish in order: products of a warpgroup, stores of a thread.

A group is a set of facts, what it reads or makes; a wait names how many of the last groups may
still be under way.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from blocklang.ir.core import Function
from blocklang.ir.ops.asynchronous import TmaStoreWait, WgmmaWait

Fact = Hashable


@dataclass(frozen=True)
class Groups:
    """Groups under way, oldest first. `most` is the most that any wait leaves: older ones finish
    together, so that they count as one, and a state is bounded.
    """

    most: int
    under_way: tuple[frozenset[Fact], ...] = ()

    def start(self, facts: Iterable[Fact]) -> Groups:
        """With one more group."""
        return self._with((*self.under_way, frozenset(facts)))

    def wait(self, groups: int) -> tuple[frozenset[Fact], Groups]:
        """What is done when at most `groups` are under way, and the rest."""
        first = max(len(self.under_way) - groups, 0)
        return frozenset().union(*self.under_way[:first]), self._with(self.under_way[first:])

    def change(self, old: Iterable[Fact], new: dict[Fact, list[Fact]]) -> Groups:
        """Without the facts `old`, and with `new[fact]` wherever `fact` was."""
        dropped = frozenset(old)

        def changed(facts: frozenset[Fact]) -> frozenset[Fact]:
            added = (to for fact in facts if fact in new for to in new[fact])
            return (facts - dropped).union(added)

        return self._with(tuple(map(changed, self.under_way)))

    @property
    def facts(self) -> frozenset[Fact]:
        """Those of all groups."""
        return frozenset().union(*self.under_way)

    def _with(self, groups: tuple[frozenset[Fact], ...]) -> Groups:
        first = max(len(groups) - self.most, 0)
        oldest = frozenset().union(*groups[:first])
        kept = [oldest, *groups[first:]] if oldest else list(groups[first:])
        # What nothing is known of matters only for counting younger groups.
        while kept and not kept[0]:
            del kept[0]
        return Groups(self.most, tuple(kept))


def products(function: Function) -> Groups:
    """No products, in a function."""
    return Groups(
        max((op.groups for op in function.walk() if isinstance(op, WgmmaWait)), default=0)
    )


def stores(function: Function) -> Groups:
    """No stores, in a function."""
    found = (op.groups for op in function.walk() if isinstance(op, TmaStoreWait))
    return Groups(max(found, default=0))
