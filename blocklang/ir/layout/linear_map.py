"""The linear map under every layout: which element of a tensor each hardware index holds.

A map takes the bits of its *in-dims* (`register`, `lane`, `warp`, `block`, or `offset` for
shared memory) to the bits of tensor coordinates. It is linear over GF(2): each in-bit has a
*basis*, the coordinates it stands for, and an index holds the element at the XOR of the bases of
its set bits.

This module has the map itself: its bases, its matrix, replication, composition, inversion. The
operations that follow a tensor through shape changes are in `linear.py`.

Invariants:
- every size is a power of two; coordinates lie inside `shape`;
- in-dims without bits are not stored and the others stand in a fixed order, so two layouts are
  equal exactly when they are the same map;
- objects are immutable, and everything derived from one is computed at most once.

*Flat* coordinates number the elements row-major: the last axis has the least significant bits.
Flat inputs put the first in-dim (for block values the register) in the least significant bits.
No function here enumerates elements. Errors are ValueErrors: they mean a mistake in the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Self

from . import gf2

Coordinates = tuple[int, ...]
Bases = tuple[Coordinates, ...]

WARP_SIZE = 32
"""The number of lanes in a warp, on every GPU that we compile for."""

HARDWARE_DIMS = ("register", "lane", "warp", "block")
"""The in-dims of a layout of a block value; `shared` layouts have the one in-dim `offset`."""


def log2(size: int) -> int:
    """Return the exponent of a power of two; raise ValueError for any other number."""
    if size < 1 or size & (size - 1):
        raise ValueError(f"expected a power of two, got {size}")
    return size.bit_length() - 1


def padded_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """Return `shape` with every size rounded up to a power of two."""
    return tuple(1 << (size - 1).bit_length() for size in shape)


def axis_dim(axis: int) -> str:
    """Return the in-dim name under which a layout takes tensor axis `axis` as its input."""
    return f"dim{axis}"


def _dim_order(dim: str) -> tuple[int, int, str]:
    known = HARDWARE_DIMS.index(dim) if dim in HARDWARE_DIMS else len(HARDWARE_DIMS)
    return known, len(dim), dim


def flatten(coordinates: Sequence[int], shape: Sequence[int]) -> int:
    """Return the row-major number of an element."""
    flat = 0
    for coordinate, size in zip(coordinates, shape, strict=True):
        flat = flat * size + coordinate
    return flat


def unflatten(flat: int, shape: Sequence[int]) -> Coordinates:
    """Return the coordinates of the element with a row-major number."""
    coordinates = []
    for size in reversed(shape):
        coordinates.append(flat % size)
        flat //= size
    return tuple(reversed(coordinates))


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear map from the bits of named in-dims to the bits of coordinates in `shape`.

    `bases` pairs each in-dim with the coordinates of its bits, least significant bit first.
    """

    bases: tuple[tuple[str, Bases], ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        names = [dim for dim, _ in self.bases]
        if len(set(names)) != len(names):
            raise ValueError(f"an in-dim is given twice: {', '.join(names)}")
        for size in self.shape:
            log2(size)
        for dim, bases in self.bases:
            for basis in bases:
                if len(basis) != len(self.shape) or not all(
                    0 <= coordinate < size
                    for coordinate, size in zip(basis, self.shape, strict=True)
                ):
                    raise ValueError(f"{dim} basis {basis} lies outside the shape {self.shape}")
        kept = sorted(
            (item for item in self.bases if item[1]), key=lambda item: _dim_order(item[0])
        )
        object.__setattr__(self, "bases", tuple(kept))
        object.__setattr__(self, "_hash", hash((self.bases, self.shape)))

    @classmethod
    def of(cls, shape: Sequence[int], **bases: Iterable[int | Sequence[int]]) -> Self:
        """Build a layout from lists of bases; a plain int stands for a basis of a rank-1 tensor."""
        return cls(
            tuple(
                (dim, tuple((b,) if isinstance(b, int) else tuple(b) for b in of_dim))
                for dim, of_dim in bases.items()
            ),
            tuple(shape),
        )

    @classmethod
    def from_flat(cls, shape: Sequence[int], flat: Mapping[str, Iterable[int]]) -> Self:
        """Build a layout from bases given as row-major element numbers."""
        shape = tuple(shape)
        return cls(
            tuple(
                (dim, tuple(unflatten(b, shape) for b in of_dim)) for dim, of_dim in flat.items()
            ),
            shape,
        )

    # --- Identity ---

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, LinearMap):
            return NotImplemented
        return hash(self) == hash(other) and self.shape == other.shape and self.bases == other.bases

    def __hash__(self) -> int:
        cached: int = self.__dict__["_hash"]
        return cached

    # --- Sizes and single bases ---

    @property
    def rank(self) -> int:
        """The number of tensor axes."""
        return len(self.shape)

    @cached_property
    def out_bits(self) -> int:
        """The number of bits of a flat element number."""
        return sum(log2(size) for size in self.shape)

    @cached_property
    def in_dims(self) -> tuple[str, ...]:
        """The in-dims that have at least one bit."""
        return tuple(dim for dim, _ in self.bases)

    @cached_property
    def _by_dim(self) -> dict[str, Bases]:
        return dict(self.bases)

    @cached_property
    def _flat(self) -> dict[str, tuple[int, ...]]:
        return {dim: tuple(flatten(b, self.shape) for b in bases) for dim, bases in self.bases}

    def bases_of(self, dim: str) -> Bases:
        """Return the bases of one in-dim; an absent in-dim has none."""
        return self._by_dim.get(dim, ())

    def basis(self, dim: str, bit: int) -> Coordinates:
        """Return the coordinates that one bit of one in-dim stands for."""
        return self.bases_of(dim)[bit]

    def in_bits(self, dim: str) -> int:
        """Return the number of bits of an in-dim, 0 if it is absent."""
        return len(self.bases_of(dim))

    def in_size(self, dim: str) -> int:
        """Return the number of indices of an in-dim, 1 if it is absent."""
        return 1 << self.in_bits(dim)

    def flat_bases(self, *dims: str) -> tuple[int, ...]:
        """Return the matrix columns, each a row-major element number, of the given in-dims.

        Without arguments: of all in-dims, in the order of `in_dims`.
        """
        if not dims:
            return self._matrix
        return tuple(basis for dim in dims for basis in self._flat.get(dim, ()))

    @cached_property
    def _matrix(self) -> tuple[int, ...]:
        return tuple(basis for bases in self._flat.values() for basis in bases)

    def apply(self, **indices: int) -> Coordinates:
        """Return the coordinates held at the given indices; an in-dim left out has index 0."""
        flat = 0
        for dim, index in indices.items():
            if not 0 <= index < self.in_size(dim):
                raise ValueError(f"{dim} index {index} is outside 0..{self.in_size(dim) - 1}")
            flat ^= gf2.apply(self._flat.get(dim, ()), index)
        return unflatten(flat, self.shape)

    # --- Rank, replication ---

    @cached_property
    def _rank_of_map(self) -> int:
        return gf2.rank(self._matrix)

    @property
    def is_injective(self) -> bool:
        """Whether no element is held twice."""
        return self._rank_of_map == len(self._matrix)

    @property
    def is_surjective(self) -> bool:
        """Whether every element is held somewhere."""
        return self._rank_of_map == self.out_bits

    @property
    def is_bijective(self) -> bool:
        """Whether every element is held exactly once."""
        return self.is_injective and self.is_surjective

    @cached_property
    def _free_masks(self) -> Mapping[str, int]:
        span = gf2.Span()
        masks = {
            dim: sum(1 << bit for bit, basis in enumerate(flat) if not span.add(basis))
            for dim, flat in self._flat.items()
        }
        return MappingProxyType(masks)

    def free_masks(self) -> Mapping[str, int]:
        """Return, per in-dim, the mask of the bits that only number replicas.

        A bit is free when its basis depends on the bases before it, in the order of `in_dims`
        (register, lane, warp, block). The indices whose free bits are all 0 hold every element
        that the layout holds, each exactly once.
        """
        return self._free_masks

    def owns(self, **indices: int) -> bool:
        """Return whether these indices are the owner, not a replica, of what they hold."""
        return not any(index & self._free_masks.get(dim, 0) for dim, index in indices.items())

    # --- Maps ---

    def compose(self, outer: LinearMap) -> Self:
        """Return the layout `x -> outer(self(x))`.

        Axis `i` of `self` feeds the in-dim `dim<i>` of `outer` (see `axis_dim`), whose size must
        be the same. The result has the in-dims of `self` and the shape of `outer`.
        """
        expected = {axis_dim(axis): log2(size) for axis, size in enumerate(self.shape) if size > 1}
        actual = {dim: outer.in_bits(dim) for dim in outer.in_dims}
        if expected != actual:
            raise ValueError(f"cannot compose: {self} yields {expected} bits, not {actual}")
        columns = outer.flat_bases(*(axis_dim(axis) for axis in reversed(range(self.rank))))
        return self._mapped(lambda flat: gf2.apply(columns, flat), outer.shape)

    def pseudo_inverse(self) -> Self:
        """Return a layout from tensor coordinates back to indices: one that holds the element.

        The in-dims are `dim0`, `dim1`, ... (one per axis); the axes are the in-dims of `self`, in
        the order of `in_dims`. Free bits come back as 0, so the owner is found. Raises ValueError
        if some element is held nowhere.
        """
        return self._pseudo_inverse

    @cached_property
    def _pseudo_inverse(self) -> Self:
        columns = gf2.right_inverse(self._matrix, self.out_bits)
        sizes = [self.in_bits(dim) for dim in self.in_dims]

        def indices(flat: int) -> Coordinates:
            found = []
            for bits in sizes:
                found.append(flat & ((1 << bits) - 1))
                flat >>= bits
            return tuple(found)

        bases: list[tuple[str, Bases]] = []
        position = 0
        for axis in reversed(range(self.rank)):
            bits = log2(self.shape[axis])
            columns_of_axis = columns[position : position + bits]
            bases.append((axis_dim(axis), tuple(indices(column) for column in columns_of_axis)))
            position += bits
        return type(self)(tuple(bases), tuple(1 << bits for bits in sizes))

    def invert(self) -> Self:
        """Return the inverse of a bijective layout; see `pseudo_inverse` for the naming."""
        if not self.is_bijective:
            raise ValueError(f"{self} is not bijective, so it has no inverse")
        return self._pseudo_inverse

    def _mapped(self, transform: Callable[[int], int], shape: Coordinates) -> Self:
        """Return the map whose flat bases are transformed and read in another shape."""
        flat = {dim: [transform(b) for b in bases] for dim, bases in self._flat.items()}
        return self.from_flat(shape, flat)

    def _with_coordinates(
        self, transform: Callable[[Coordinates], Coordinates], shape: Coordinates
    ) -> Self:
        """Return the map whose bases have transformed coordinates in another shape."""
        bases = tuple((dim, tuple(map(transform, of_dim))) for dim, of_dim in self.bases)
        return type(self)(bases, shape)
