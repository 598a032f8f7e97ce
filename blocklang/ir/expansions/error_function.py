"""erf for float32 and float64.

Below 1, x + x * p(x**2); above, 1 - exp(-q(|x|)) with q an approximation of -log(erfc), both
minimax. The exp is an op, so that targets with an approximation use it: the result is so much
nearer to 1 that its error is small there.

Largest errors that the tests find, in units in the last place of the result: 1.2 for float32, 1.1
for float64.
"""

from __future__ import annotations

from dataclasses import dataclass

from blocklang.ir.ops.elementwise import Exp
from blocklang.ir.types import f32

from .expression import Expression


@dataclass(frozen=True)
class _Format:
    """Coefficients of p and of q (around `CENTER`); from `saturation` on erf(x) rounds to 1."""

    small: tuple[float, ...]
    large: tuple[float, ...]
    saturation: float


CENTER = 2.0
_F32 = _Format(
    small=(
        0.12837916612625122,
        -0.3761262595653534,
        0.11283578723669052,
        -0.026853347197175026,
        0.005187162198126316,
        -0.0007997853099368513,
        7.806903158780187e-05,
    ),
    large=(
        5.364941120147705,
        4.4181599617004395,
        0.9237529635429382,
        0.01648011803627014,
        -0.0035552799236029387,
        0.0007156287902034819,
        -0.00016890904225874692,
        9.35455955186626e-06,
        6.809358410464483e-07,
    ),
    saturation=3.95,
)
_F64 = _Format(
    small=(
        0.1283791670955126,
        -0.376126389031841,
        0.11283791670971101,
        -0.02686617064803226,
        0.005223977652709292,
        -0.0008548328537086458,
        0.0001205538625176316,
        -1.492688312976499e-05,
        1.6481089627095288e-06,
        -1.6557496688965205e-07,
        1.601596272551721e-08,
        -1.6476294844702536e-09,
        1.4364694034356495e-10,
    ),
    large=(
        5.364941264616638,
        4.418160805994416,
        0.9237508418237471,
        0.016465118136765326,
        -0.0035707563452004854,
        0.0007323993879491962,
        -0.0001353093395605837,
        2.070641919420371e-05,
        -1.9521836480252705e-06,
        -2.036071862773563e-07,
        1.7319376561341862e-07,
        -5.78457932350383e-08,
        1.3960272802650402e-08,
        -2.5019942040778483e-09,
        2.65525561494703e-10,
        2.80805510874857e-11,
        -3.18932633789036e-11,
        1.2347555517863864e-11,
        -2.4323712445099663e-12,
        1.864928498292613e-13,
    ),
    saturation=6.0,
)


def erf(x: Expression) -> Expression:
    """The error function."""
    format = _F32 if x.dtype is f32 else _F64
    magnitude = abs(x)
    small = (x * x).polynomial(format.small).fma(x, x)
    bounded = magnitude.at_most(format.saturation)
    exponent = -((bounded - CENTER).polynomial(format.large))
    sign = x.bits() & (1 << (x.dtype.bits - 1))
    large = ((1.0 - exponent.apply(Exp)).bits() | sign).bits(x.dtype)
    # Not `magnitude < 1`, so that a NaN takes the polynomial and stays.
    return (magnitude >= 1.0).choose(large, small)
