"""The front ends: Python kernels and `.bl` text become one syntax tree, and the tree becomes IR."""
