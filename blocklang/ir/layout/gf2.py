"""Linear algebra over GF(2) on bitmask integers.

A vector is a Python int whose bit `i` is coordinate `i`; addition is XOR. A linear map is the
sequence of its columns: `columns[j]` is the image of input bit `j`. Everything here is exact,
deterministic and quick for the sizes of layouts (some twenty to thirty bits). Vectors and maps
carry no dimension of their own: callers that need one pass it.
"""

from collections.abc import Iterable, Sequence


class Span:
    """The span of vectors added one by one, kept in echelon form.

    Each kept vector remembers which of the added vectors it is the sum of, so that the span also
    solves equations. Solutions only use vectors that enlarged the span when they were added:
    whoever comes first is preferred, and redundant vectors always get the coefficient 0.
    """

    def __init__(self, vectors: Iterable[int] = ()) -> None:
        self._rows: list[tuple[int, int]] = []  # (vector, combination), by descending leading bit
        self._added = 0
        self.redundant: list[int] = []
        """For each added vector that was already in the span, the combination that is zero."""
        for vector in vectors:
            self.add(vector)

    @property
    def dimension(self) -> int:
        """The number of independent vectors added so far."""
        return len(self._rows)

    def reduce(self, vector: int) -> tuple[int, int]:
        """Split `vector` into (remainder outside the span, combination of added vectors).

        The remainder is 0 exactly when the vector lies in the span.
        """
        combination = 0
        for row, row_combination in self._rows:
            if vector ^ row < vector:
                vector ^= row
                combination ^= row_combination
        return vector, combination

    def add(self, vector: int) -> bool:
        """Add a vector; return whether it enlarged the span."""
        remainder, combination = self.reduce(vector)
        combination |= 1 << self._added
        self._added += 1
        if not remainder:
            self.redundant.append(combination)
            return False
        self._rows.append((remainder, combination))
        self._rows.sort(reverse=True)
        return True

    def solve(self, target: int) -> int | None:
        """Return a bitmask of added vectors whose sum is `target`, or None if there is none."""
        remainder, combination = self.reduce(target)
        return None if remainder else combination

    def rows(self) -> tuple[int, ...]:
        """Return an echelon basis of the span, by ascending leading bit."""
        return tuple(row for row, _ in reversed(self._rows))

    def __contains__(self, vector: int) -> bool:
        return self.reduce(vector)[0] == 0


def apply(columns: Sequence[int], vector: int) -> int:
    """Return the image of `vector`: the XOR of the columns that its set bits select."""
    image = 0
    for column in columns:
        if vector & 1:
            image ^= column
        vector >>= 1
    return image


def multiply(outer: Sequence[int], inner: Sequence[int]) -> tuple[int, ...]:
    """Return the columns of the composed map `outer(inner(x))`."""
    return tuple(apply(outer, column) for column in inner)


def rank(columns: Iterable[int]) -> int:
    """Return the dimension of the span of `columns`."""
    return Span(columns).dimension


def kernel(columns: Iterable[int]) -> tuple[int, ...]:
    """Return a basis of the inputs that the map sends to 0."""
    return tuple(Span(columns).redundant)


def right_inverse(columns: Sequence[int], out_bits: int) -> tuple[int, ...]:
    """Return columns of a map R with `columns(R(y)) == y` for all y of `out_bits` bits.

    Inputs that depend on earlier ones are never used. Raises ValueError if the map does not reach
    every output.
    """
    span = Span(columns)
    solutions = [span.solve(1 << bit) for bit in range(out_bits)]
    found = tuple(solution for solution in solutions if solution is not None)
    if len(found) != out_bits:
        raise ValueError(f"the map reaches only 2^{span.dimension} of 2^{out_bits} outputs")
    return found


def independent(vectors: Iterable[int], modulo: Iterable[int] = ()) -> tuple[int, ...]:
    """Return those of `vectors`, in order, that are independent of `modulo` and of each other."""
    span = Span(modulo)
    return tuple(vector for vector in vectors if span.add(vector))


def reduced_basis(vectors: Iterable[int]) -> tuple[int, ...]:
    """Return the canonical basis of a span, ascending: no vector has another's leading bit."""
    basis: list[int] = []
    for row in Span(vectors).rows():
        for lower in reversed(basis):
            row = min(row, row ^ lower)
        basis.append(row)
    return tuple(basis)


def intersection(first: Iterable[int], second: Iterable[int]) -> tuple[int, ...]:
    """Return the canonical basis of the intersection of two spans."""
    first = independent(first)
    own = (1 << len(first)) - 1
    relations = kernel((*first, *independent(second)))
    return reduced_basis(apply(first, relation & own) for relation in relations)
