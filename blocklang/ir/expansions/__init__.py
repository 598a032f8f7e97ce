"""Elementwise functions and conversions written in the ops that every target has.

Each file holds functions from expressions to expressions; `passes/expand_math.py` decides which
are used. Coefficients come from `tools/fit_polynomials.py`.
"""
