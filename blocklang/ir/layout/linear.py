"""The linear layout of a tensor: a linear map that follows the tensor through shape changes.

Reshaping, transposing, slicing and tiling only relabel the bits of coordinates, so each is a few
lines here, and none needs to know whether the layout came from a blocked, a tensor-core or a
shared-memory constructor. Data never moves: an index holds the same value before and after.

Does not contain: constructors (`distributed`, `shared`, `tensor_core`), conversions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from . import gf2, text
from .linear_map import Bases, Coordinates, LinearMap, log2


class LinearLayout(LinearMap):
    """Which element of a tensor of `shape` each hardware index holds.

    Write one down with `LinearLayout.of([8], register=[1], lane=[2, 4])`: thus lane 1 has the
    elements 2 and 3 in its registers 0 and 1.
    """

    # --- Text ---

    @classmethod
    def parse(cls, source: str) -> LinearLayout:
        """Read back what `str(layout)` wrote; raise ValueError on any other text."""
        shape, bases = text.parse_layout(source)
        return cls.of(shape, **bases)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return text.format_layout(self.shape, self.bases)

    def show(self, logical_shape: Sequence[int] | None = None) -> str:
        """Draw which thread and register (or which offset) owns each element.

        `T3:1` is register 1 of thread 3; replicas are joined by `|`. Only elements inside
        `logical_shape` are drawn. Rank 1 and 2 give one table, higher ranks one per slice.
        """
        return text.draw(self, self.shape if logical_shape is None else tuple(logical_shape))

    # --- Shape changes ---

    def _axis(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} is outside a tensor of rank {rank}")
        return axis % rank

    def slice(self, axis: int) -> LinearLayout:
        """Drop one axis: every index keeps its other coordinates.

        This is the layout of a reduction's result, and of what `expand_dims` makes into `self`.
        Bits that only moved along the axis get zero bases: their indices hold replicas.
        """
        axis = self._axis(axis, self.rank)

        def drop(sizes: tuple[int, ...]) -> tuple[int, ...]:
            return sizes[:axis] + sizes[axis + 1 :]

        return self._with_coordinates(drop, drop(self.shape))

    def expand_dims(self, axis: int) -> LinearLayout:
        """Insert an axis of size 1; `axis` counts in the result, negative from its end."""
        axis = self._axis(axis, self.rank + 1)

        def insert(coordinates: Coordinates) -> Coordinates:
            return (*coordinates[:axis], 0, *coordinates[axis:])

        return self._with_coordinates(insert, (*self.shape[:axis], 1, *self.shape[axis:]))

    def reshape(self, new_shape: Sequence[int]) -> LinearLayout:
        """Number the elements row-major in another shape of the same size."""
        new_shape = tuple(new_shape)
        if sum(map(log2, new_shape)) != self.out_bits:
            raise ValueError(f"cannot reshape {self.shape} to {new_shape}: the sizes differ")
        return self._mapped(lambda flat: flat, new_shape)

    def permute(self, order: Sequence[int]) -> LinearLayout:
        """Reorder the axes: axis `i` of the result is axis `order[i]` of this layout."""
        if sorted(order) != list(range(self.rank)):
            raise ValueError(f"{tuple(order)} is no permutation of {self.rank} axes")

        def reorder(values: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(values[axis] for axis in order)

        return self._with_coordinates(reorder, reorder(self.shape))

    def broadcast(self, axis: int, size: int) -> LinearLayout:
        """Widen an axis of size 1 so that no data has to move.

        The bits of the new axis go to free bits first (register, then lane, ...: what they number
        are replicas, which become the copies), then to new registers. Register `r` of the result
        is therefore register `r % in_size("register")` of this layout, in the same thread. After
        `slice` and `expand_dims`, this is one of the layouts that share that slice.
        """
        axis = self._axis(axis, self.rank)
        if self.shape[axis] != 1:
            raise ValueError(f"only an axis of size 1 broadcasts, axis {axis} of {self} is not")

        def along(bit: int) -> Coordinates:
            return tuple((1 << bit) if other == axis else 0 for other in range(self.rank))

        pending = [along(bit) for bit in range(log2(size))]
        widened: dict[str, Bases] = {"register": ()}
        for dim, bases in self.bases:
            free = self.free_masks()[dim]
            widened[dim] = tuple(
                _add(basis, pending.pop(0)) if free >> bit & 1 and pending else basis
                for bit, basis in enumerate(bases)
            )
        widened["register"] += tuple(pending)
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        return LinearLayout(tuple(widened.items()), shape)

    # --- Tiles ---

    def product(self, outer: LinearLayout) -> LinearLayout:
        """Tile: `self` within each element of `outer`.

        Sizes multiply, and in every in-dim the bits of `outer` stand above those of `self`.
        """
        if self.rank != outer.rank:
            raise ValueError(f"the ranks of {self} and {outer} differ")
        dims = dict.fromkeys((*self.in_dims, *outer.in_dims))
        shape = tuple(a * b for a, b in zip(self.shape, outer.shape, strict=True))
        bases = tuple(
            (
                dim,
                self.bases_of(dim)
                + tuple(
                    tuple(c * size for c, size in zip(basis, self.shape, strict=True))
                    for basis in outer.bases_of(dim)
                ),
            )
            for dim in dims
        )
        return LinearLayout(bases, shape)

    # --- Registers ---

    def remove_zero_bases(self, dim: str) -> tuple[LinearLayout, tuple[int, ...]]:
        """Drop the bits of one in-dim that move nowhere.

        Returns the smaller layout and, for each of its indices of `dim`, the index in `self` that
        holds the same elements.
        """
        kept = [(bit, basis) for bit, basis in enumerate(self.bases_of(dim)) if any(basis)]
        others = tuple(item for item in self.bases if item[0] != dim)
        layout = LinearLayout(((dim, tuple(basis for _, basis in kept)), *others), self.shape)
        columns = [1 << bit for bit, _ in kept]
        return layout, tuple(gf2.apply(columns, index) for index in range(1 << len(kept)))

    def vector_width(self, dim: str = "register", axis: int = -1) -> int:
        """Return how many consecutive indices of `dim` hold consecutive coordinates of `axis`.

        Every aligned group of that many registers holds, in order, an aligned group of elements,
        in every thread: what one vector load or store may move if memory is contiguous too.
        """
        axis = self._axis(axis, self.rank)
        width = 0
        for bit, basis in enumerate(self.bases_of(dim)):
            if basis != tuple((1 << bit) if i == axis else 0 for i in range(self.rank)):
                break
            width += 1
        others = [
            basis[axis]
            for name, bases in self.bases
            for basis in (bases[width:] if name == dim else bases)
        ]
        while any(coordinate % (1 << width) for coordinate in others):
            width -= 1
        return 1 << width


def _add(first: Coordinates, second: Coordinates) -> Coordinates:
    return tuple(a ^ b for a, b in zip(first, second, strict=True))
