"""Choosing compile-time values and options of launches: by measuring (`autotune`) or by rules
(`heuristics`).

Both wrap a kernel and are launched like one. `decorator.py` is what they share; `autotuner.py`
remembers a choice for each key; `session.py` makes one: compile, measure, compare, store.
"""
