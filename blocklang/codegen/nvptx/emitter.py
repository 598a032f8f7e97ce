"""The emitter of one GPU kernel: what every lowering needs to know of threads, registers and
predicates.

A block value is a vector of the registers that its layout gives each thread, in order of register
index. Which element a register is, which address it has, and who owns replicas is computed from
the bits of the thread's number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from blocklang.codegen.debug_info import DebugInfo
from blocklang.codegen.emit import Emitter
from blocklang.codegen.targets import GpuTarget
from blocklang.ir.core import Value
from blocklang.ir.layout import LinearLayout
from blocklang.ir.types import (
    BlockType,
    MBarriersType,
    PendingType,
    SharedType,
    TensorMapType,
    Type,
)

LANE_BITS = 5
CONVERGENT = "#1"
"""The attributes of inline PTX that threads execute together: LLVM may not move it."""
SHARED = "ptr addrspace(3)"


class NvptxEmitter(Emitter):
    """LLVM IR of one kernel for an NVIDIA GPU."""

    pointer = "ptr addrspace(1)"
    target: GpuTarget

    def __init__(
        self, target: GpuTarget, num_warps: int, contract: bool, debug: DebugInfo | None
    ) -> None:
        super().__init__(target, contract, debug)
        self.num_warps = num_warps
        self.globals: list[str] = []
        # Size of the stack buffer for the arguments of printf, which all calls share.
        self.print_bytes = 0
        # While the combination of a reduction is emitted, its scalars stand for vectors of this
        # length.
        self.scalar_lanes: int | None = None
        # While a single register is computed, blocks stand for scalars.
        self.is_scalar = False
        # Which partition of the warps is emitted: "", "consumer" or "producer" (one thread).
        # Blocks of threads that execute one program.
        self.num_ctas = 1
        self.partition = ""
        self.elements: dict[tuple[Value, int, str], str] = {}
        self.ranges: dict[Value, tuple[str, int]] = {}

    def lanes(self, type: Type) -> int | None:
        if self.is_scalar:
            return None
        if isinstance(type, PendingType):
            type = type.block
        return type.registers if isinstance(type, BlockType) else self.scalar_lanes

    def type(self, type: Type) -> str:
        if isinstance(type, SharedType | MBarriersType):
            return SHARED
        return "ptr" if isinstance(type, TensorMapType) else super().type(type)

    def prologue(self, threads: int, needs_warp: bool) -> None:
        """The thread's number, as `%tid`, and that of its warp, as `%warp`, which ptxas then knows
        to be the same for the whole warp.
        """
        self.lines.append(
            f"  %tid = call range(i32 0, {threads}) i32 @llvm.nvvm.read.ptx.sreg.tid.x()"
        )
        if needs_warp:
            number = self.emit(f"lshr i32 %tid, {LANE_BITS}")
            name = "@llvm.nvvm.shfl.sync.idx.i32"
            self.line(f"%warp = call i32 {name}(i32 -1, i32 {number}, i32 0, i32 31)")

    def global_string(self, text: str) -> str:
        """A constant string in global memory, as a generic pointer."""
        data = text.encode() + b"\0"
        name = f"@string{len(self.globals)}"
        body = "".join(f"\\{byte:02X}" for byte in data)
        self.globals.append(
            f'{name} = private addrspace(1) constant [{len(data)} x i8] c"{body}", align 1'
        )
        return f"addrspacecast (ptr addrspace(1) {name} to ptr)"

    # ------------------------------------------------------------ indices

    def thread_map(self, lane: Sequence[int], warp: Sequence[int]) -> tuple[str, int]:
        """XOR of the images of the set bits of the thread's number, and the mask of bits that it
        can have.

        The map is a sum of diagonals: all bits i whose image contains bit i + d move by the same
        shift d.
        """
        images = [*lane, *[0] * (LANE_BITS - len(lane)), *warp]
        diagonals: dict[int, int] = {}
        for bit, image in enumerate(images):
            for target in range(image.bit_length()):
                if image >> target & 1:
                    diagonals[target - bit] = diagonals.get(target - bit, 0) | 1 << bit
        result, used = "", 0
        for shift, mask in diagonals.items():
            everything = mask == 32 * self.num_warps - 1
            term = "%tid" if everything else self.emit(f"and i32 %tid, {mask}")
            if shift:
                term = self.emit(
                    f"{'shl nuw nsw' if shift > 0 else 'lshr'} i32 {term}, {abs(shift)}"
                )
            moved = mask << shift if shift > 0 else mask >> -shift
            if result:
                opcode = "xor" if used & moved else "or disjoint"
                term = self.emit(f"{opcode} i32 {result}, {term}")
            result, used = term, used | moved
        return result or "0", used

    def combine_offset(self, base: str, used: int, offset: int) -> str:
        """base ^ offset, where `used` are the bits that base can have: an addition as far as no
        bits meet, which address modes can absorb.
        """
        met, apart = offset & used, offset & ~used
        if met:
            base = self.emit(f"xor i32 {base}, {met}")
        return self.emit(f"add nuw nsw i32 {base}, {apart}") if apart else base

    def coordinates(self, layout: LinearLayout, axis: int) -> str:
        """The vector of each register's coordinate along `axis`."""
        return self.spread(layout, axis, *self.first_coordinate(layout, axis))

    def first_coordinate(self, layout: LinearLayout, axis: int) -> tuple[str, int]:
        """The coordinate of register 0 along `axis`, and the mask of bits that it can have."""
        lane = [basis[axis] for basis in layout.bases_of("lane")]
        warp = [basis[axis] for basis in layout.bases_of("warp")]
        return self.thread_map(lane, warp)

    def spread(self, layout: LinearLayout, axis: int, base: str, used: int) -> str:
        """The vector of coordinates from the coordinate of register 0."""
        size = layout.in_size("register")
        offsets = [layout.apply(register=r)[axis] for r in range(size)]
        kind = f"<{size} x i32>"
        first = self.emit(f"insertelement {kind} poison, i32 {base}, i32 0")
        vector = self.emit(f"shufflevector {kind} {first}, {kind} poison, {kind} zeroinitializer")
        if not any(offsets):
            return vector
        opcode = "xor" if any(used & offset for offset in offsets) else "add nuw nsw"
        return self.emit(f"{opcode} {kind} {vector}, <{', '.join(f'i32 {o}' for o in offsets)}>")

    # ------------------------------------------------------------ predicates

    def owner(self, type: Type) -> str | None:
        """Whether this thread owns its elements of a block (or a scalar); None where every thread
        does.
        """
        if isinstance(type, BlockType):
            assert type.layout is not None
            masks = type.layout.free_masks()
            free = masks.get("lane", 0) | masks.get("warp", 0) << LANE_BITS
        else:
            free = 32 * self.num_warps - 1
        if not free:
            return None
        bits = self.emit(f"and i32 %tid, {free}")
        return self.emit(f"icmp eq i32 {bits}, 0")

    def both(self, first: str | None, second: str | None) -> str | None:
        """The conjunction of two predicates, either of which may be absent (true)."""
        if first is None or second is None:
            return first or second
        return self.emit(f"and i1 {first}, {second}")

    @contextmanager
    def guarded(self, predicate: str | None) -> Iterator[None]:
        """What is emitted inside runs only under `predicate` (None: always)."""
        if predicate is None:
            yield
            return
        inside, end = self.new_label("guarded"), self.new_label("endguarded")
        self.line(f"br i1 {predicate}, label %{inside}, label %{end}")
        self.label(inside)
        yield
        self.line(f"br label %{end}")
        self.label(end)

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        """What is emitted inside runs in one thread of the program, always the same one of a
        partition.
        """
        is_alone = self.partition == "producer"
        with self.guarded(None if is_alone else self.emit("icmp eq i32 %tid, 0")):
            yield

    def assembly(
        self,
        text: str,
        results: Sequence[tuple[str, str]],
        operands: Sequence[tuple[str, str, str]],
        memory: bool = False,
    ) -> list[str]:
        """Inline PTX that threads execute together; the names of its results.

        `results` are (constraint, LLVM type), `operands` (constraint, LLVM type, value). With
        `memory` no access is moved across.
        """
        clobbers = ["~{memory}"] if memory else []
        constraints = ",".join(
            [*(f"={c}" for c, _ in results), *(c for c, _, _ in operands), *clobbers]
        )
        kinds = [kind for _, kind in results]
        whole = "void" if not kinds else kinds[0] if len(kinds) == 1 else f"{{{', '.join(kinds)}}}"
        given = ", ".join(f"{kind} {value}" for _, kind, value in operands)
        call = f'call {whole} asm sideeffect "{text}", "{constraints}"({given}) {CONVERGENT}'
        if not kinds:
            self.line(call)
            return []
        made = self.emit(call)
        if len(kinds) == 1:
            return [made]
        return [self.emit(f"extractvalue {whole} {made}, {i}") for i in range(len(kinds))]

    # ------------------------------------------------------------ pieces of vectors

    def round_to_tf32(self, value: str) -> str:
        """A float as the 32 bits of the nearest tf32; of two, the one away from zero."""
        return self.emit(f"call i32 @llvm.nvvm.f2tf32.rna(float {value})")

    def piece(self, vector: str, scalar: str, length: int, start: int, size: int) -> str:
        """Elements start .. start + size of a vector."""
        return self.shuffle(vector, scalar, length, range(start, start + size))

    def concatenate(self, pieces: Sequence[str], scalar: str, size: int) -> str:
        """The vectors of `size` elements each, one behind the other."""
        pieces = list(pieces)
        while len(pieces) > 1:
            indices = ", ".join(f"i32 {i}" for i in range(2 * size))
            kind = f"<{size} x {scalar}>"
            pieces = [
                self.emit(f"shufflevector {kind} {a}, {kind} {b}, <{2 * size} x i32> <{indices}>")
                for a, b in zip(pieces[::2], pieces[1::2], strict=True)
            ]
            size *= 2
        return pieces[0]
