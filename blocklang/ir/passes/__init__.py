"""Passes over the IR, one file each; the pipelines are in `blocklang/compile.py`."""
