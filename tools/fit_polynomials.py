#!/usr/bin/env python3
"""Fit the polynomials of blocklang/ir/expansions and print them with their error.

    python -m tools.fit_polynomials [NAME ...]

Method: the Remez exchange algorithm on a dense grid of Chebyshev points, in decimal arithmetic of
60 digits. Coefficients are rounded to the working precision one after the other, beginning with
the lowest power, and the free ones are fitted again after each, so that they make up for the
rounding of the others; the best of these polynomials is printed.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, getcontext

getcontext().prec = 60
Number = Decimal
Function = Callable[[Number], Number]
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230782")
GRID_PER_COEFFICIENT = 40


@dataclass(frozen=True)
class Fit:
    """Approximates `function` on [low, high] by a polynomial of `count` coefficients for `bits`
    wide floats, so that the largest `weight` times error is smallest.
    """

    name: str
    function: Function
    low: Number
    high: Number
    count: int
    weight: Function
    bits: int


def exponential_series(x: Number) -> Number:
    """(exp(x) - 1 - x) / x**2, by its series where subtraction would cancel."""
    if abs(x) > Decimal("0.01"):
        return (x.exp() - 1 - x) / (x * x)
    total, term, index = Decimal(0), Decimal("0.5"), 3
    while abs(term) > Decimal("1e-55"):
        total, term, index = total + term, term * x / index, index + 1
    return total


def alternating(x2: Number, first: int) -> Number:
    """The sum over k of (-x2)**k * first! / (first + 2 k)!, the tails of sine and cosine."""
    total, term, index = Decimal(0), Decimal(1), first
    while abs(term) > Decimal("1e-58"):
        total += term
        term, index = -term * x2 / ((index + 1) * (index + 2)), index + 2
    return total


def log1p_tail(f: Number) -> Number:
    """(log(1 + f) - f + f**2 / 2) / f**3."""
    return ((1 + f).ln() - f + f * f / 2) / f**3


def arctanh_tail(z: Number) -> Number:
    """(2 atanh(s) - 2 s) / s**3 for s = sqrt(z)."""
    total, power, index = Decimal(0), Decimal(2), 3
    while abs(power) > Decimal("1e-58"):
        total, power, index = total + power / index, power * z, index + 2
    return total


def erf(x: Number) -> Number:
    """The error function, by its series."""
    total, term, index = Decimal(0), x, 0
    while abs(term) > Decimal("1e-58"):
        total += term / (2 * index + 1)
        index += 1
        term = -term * x * x / index
    return 2 * total / PI.sqrt()


def erfc(x: Number) -> Number:
    """1 - erf(x); the working precision grows with the cancellation."""
    before = getcontext().prec
    getcontext().prec = before + int(x * x)
    try:
        return 1 - erf(x)
    finally:
        getcontext().prec = before


def erf_over_x(y: Number) -> Number:
    """erf(x) / x - 1 for x = sqrt(y)."""
    x = y.sqrt()
    return erf(x) / x - 1


LN2 = Decimal(2).ln()
HALF = Decimal("0.5")
ROOT = HALF.sqrt()
QUARTER = (PI / 4 + Decimal("0.001")) ** 2
EXP = (-LN2 / 2 - Decimal("0.0001"), LN2 / 2 + Decimal("0.0001"))
LOG = (ROOT - 1, 2 * ROOT - 1)
ARCTANH = (Decimal("1e-12"), ((2 * ROOT - 1) / (2 * ROOT + 1)) ** 2)


def exp_weight(x: Number) -> Number:
    """Makes the error one relative to exp(x)."""
    return x * x / x.exp()


def sine_weight(y: Number) -> Number:
    """Makes the error one relative to sin(x), y = x * x."""
    return y / alternating(y, 1)


def cosine_weight(y: Number) -> Number:
    """Makes the error one relative to cos(x), y = x * x."""
    return y * y / alternating(y, 0)


def sine_tail(y: Number) -> Number:
    """(sin(x) / x - 1) / x**2, y = x * x."""
    return -alternating(y, 3) / 6


def cosine_tail(y: Number) -> Number:
    """(cos(x) - 1 + x**2 / 2) / x**4, y = x * x."""
    return alternating(y, 4) / 24


def log_weight(f: Number) -> Number:
    """Makes the error one relative to log(1 + f)."""
    return f**3 / (1 + f).ln()


def erf_weight(y: Number) -> Number:
    """Makes the error one relative to erf(x), y = x * x."""
    return 1 / (1 + erf_over_x(y))


def fits() -> list[Fit]:
    """All polynomials that the expansions use."""
    tiny = Decimal("1e-9")
    center = Decimal(2)
    return [
        Fit("EXP_F32", exponential_series, *EXP, 5, exp_weight, 32),
        Fit("EXP_F64", exponential_series, *EXP, 10, exp_weight, 64),
        Fit("LOG_F32", log1p_tail, *LOG, 8, log_weight, 32),
        Fit("LOG_F64", arctanh_tail, *ARCTANH, 7, lambda z: z, 64),
        Fit("SIN_F32", sine_tail, tiny, QUARTER, 3, sine_weight, 32),
        Fit("COS_F32", cosine_tail, tiny, QUARTER, 3, cosine_weight, 32),
        Fit("SIN_F64", sine_tail, tiny, QUARTER, 6, sine_weight, 64),
        Fit("COS_F64", cosine_tail, tiny, QUARTER, 6, cosine_weight, 64),
        Fit("ERF_SMALL_F32", erf_over_x, tiny, Decimal(1), 7, erf_weight, 32),
        Fit("ERF_SMALL_F64", erf_over_x, tiny, Decimal(1), 13, erf_weight, 64),
        erfc_fit("ERF_LARGE_F32", 1 - center, Decimal("3.95") - center, center, 9, 32),
        erfc_fit("ERF_LARGE_F64", 1 - center, 6 - center, center, 20, 64),
    ]


def erfc_fit(name: str, low: Number, high: Number, center: Number, count: int, bits: int) -> Fit:
    """-log(erfc(t + center)), so that 1 - exp(-it) has a small error relative to erf."""
    return Fit(
        name,
        lambda t: -erfc(t + center).ln(),
        low,
        high,
        count,
        lambda t: erfc(t + center) / erf(t + center),
        bits,
    )


def round_to(value: Number, bits: int) -> float:
    """The float of that width nearest to `value`."""
    number = float(value)
    return struct.unpack("f", struct.pack("f", number))[0] if bits == 32 else number


def chebyshev_points(low: Number, high: Number, count: int) -> list[Number]:
    """`count` Chebyshev points of [low, high] in increasing order."""
    points = []
    for index in range(count):
        angle = PI * (2 * index + 1) / (2 * count)
        cosine = alternating(angle * angle, 0)
        points.append((low + high) / 2 - (high - low) / 2 * cosine)
    return points


def solve(matrix: list[list[Number]], right: list[Number]) -> list[Number]:
    """The solution of a linear system, by elimination with pivoting."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda r: abs(rows[r][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in rows[column + 1 :]:
            factor = row[column] / rows[column][column]
            for position in range(column, size + 1):
                row[position] -= factor * rows[column][position]
    solution = [Decimal(0)] * size
    for row in reversed(range(size)):
        known = sum((rows[row][c] * solution[c] for c in range(row + 1, size)), start=Decimal(0))
        solution[row] = (rows[row][size] - known) / rows[row][row]
    return solution


def minimax(
    points: Sequence[Number], values: Sequence[Number], weights: Sequence[Number],
    powers: Sequence[int],
) -> tuple[list[Number], Number]:  # fmt: skip
    """Coefficients of `powers` with the smallest largest weighted error on `points`, and it."""
    count = len(powers) + 1
    reference = [round(i * (len(points) - 1) / (count - 1)) for i in range(count)]
    best: tuple[list[Number], Number] = [], Decimal("inf")
    for _ in range(30):
        matrix = [
            [*(points[i] ** p for p in powers), (-1) ** k / weights[i]]
            for k, i in enumerate(reference)
        ]
        *coefficients, level = solve(matrix, [values[i] for i in reference])
        errors = [
            weight * (value - sum(c * x**p for c, p in zip(coefficients, powers, strict=True)))
            for x, value, weight in zip(points, values, weights, strict=True)
        ]
        # The exchange need not be monotonic where the weight is close to zero.
        best = min(best, (coefficients, max(map(abs, errors))), key=lambda found: found[1])
        if best[1] <= abs(level) * Decimal("1.001"):
            break
        reference = exchange(errors, count)
    return best


def exchange(errors: Sequence[Number], count: int) -> list[int]:
    """The places of `count` alternating extrema (the errors of a minimax step have as many)."""
    extrema: list[int] = []
    for index, error in enumerate(errors):
        if extrema and (error > 0) == (errors[extrema[-1]] > 0):
            if abs(error) > abs(errors[extrema[-1]]):
                extrema[-1] = index
        else:
            extrema.append(index)
    while len(extrema) > count:
        extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
    return extrema


def run(fit: Fit) -> tuple[list[float], float]:
    """The rounded coefficients, lowest power first, and the largest weighted error."""
    points = chebyshev_points(fit.low, fit.high, GRID_PER_COEFFICIENT * fit.count)
    weights = [abs(fit.weight(x)) for x in points]
    left = [fit.function(x) for x in points]
    fixed: list[float] = []
    best: tuple[list[float], float] = [], float("inf")
    for power in range(fit.count):
        found, _ = minimax(points, left, weights, range(power, fit.count))
        rounded = [round_to(c, fit.bits) for c in found]
        error = max(
            weight * abs(value - sum(Decimal(c) * x ** (power + k) for k, c in enumerate(rounded)))
            for x, value, weight in zip(points, left, weights, strict=True)
        )
        best = min(best, (fixed + rounded, float(error)), key=lambda found: found[1])
        fixed = [*fixed, rounded[0]]
        left = [v - Decimal(rounded[0]) * x**power for x, v in zip(points, left, strict=True)]
    return best


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the polynomials that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    names = parser.parse_args(arguments).names
    for fit in fits():
        if not names or fit.name in names:
            coefficients, error = run(fit)
            print(f"# largest weighted error {error:.2g}")
            print(f"{fit.name} = (")
            for coefficient in coefficients:
                print(f"    {coefficient!r},")
            print(")")


if __name__ == "__main__":
    main()
