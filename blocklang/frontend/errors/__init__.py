"""The catalogue of the mistakes that a user can make in a kernel, one class each, by group.

Codes: BL1xx syntax (`syntax`), BL2xx names and calls (`names`), BL3xx types and compile-time values
(`types`), BL4xx single functions and statements (`operations`, `descriptors`); other layers have
further hundreds (`docs/errors.md` lists all). A further group of this layer has a module of its own
here, imported below so that `blocklang.ir.diagnostics.catalogue()` lists it. The classes hold texts
only; what finds a mistake decides where it is. Each class has a pinned text in
`tests/filetests/errors/`, which a test checks.
"""

from __future__ import annotations

from . import descriptors, names, operations, syntax, types

GROUPS = (syntax, names, types, operations, descriptors)
"""The modules of the catalogue, in the order of their codes."""
