"""The typed SSA IR: values, types, layouts, ops, analyses and passes. Imports nothing of ours."""
