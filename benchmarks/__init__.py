"""Measurements of speed, one program a kernel family; raw results are in `results/`."""
