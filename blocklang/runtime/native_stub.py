"""The machine code of the native launch path: LLVM IR by hand, and its compilation.

The IR calls CPython's C API as a C extension would; `native.py` says what `launch` does and
declares the structures that it reads. Every function here but `launch` returns true for success,
and false for anything unusual, perhaps with a Python exception set. `launch` clears it if it is an
`Exception`; others, such as KeyboardInterrupt, come from outside, and are raised.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm

from blocklang.codegen.llvm import lock

_OBJECTS = {
    "int": int,
    "float": float,
    "bool": bool,
    "tuple": tuple,
    "True": True,
    "None": None,
    "Exception": Exception,
}


def compile_stub(max_arguments: int, max_array_types: int) -> tuple[Any, int]:
    """Compile `launch`: the engine that owns the machine code, and the function's address.

    The address is valid as long as the engine lives.
    """
    with lock:
        return _compile(max_arguments, max_array_types)


def _compile(max_arguments: int, max_array_types: int) -> tuple[Any, int]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    text = _STUB.replace("MAX_ARGUMENTS", str(max_arguments))
    # 8 bytes for the device, and for each argument twice 8 and a byte, rounded up.
    text = text.replace("MAX_KEY_WORDS", str(3 * max_arguments + 1))
    # A null ends the list of types.
    module = llvm.parse_assembly(text.replace("MAX_ARRAY_TYPES", str(max_array_types + 1)))
    module.verify()
    # The stub is written as it should run: LLVM's passes would cost 50 ms and win nothing.
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(module, machine)
    for function in module.functions:
        if function.is_declaration:
            address = ctypes.cast(getattr(ctypes.pythonapi, function.name), ctypes.c_void_p).value
            engine.add_global_mapping(function, address)
    for name, value in _OBJECTS.items():
        engine.add_global_mapping(module.get_global_variable(name), id(value))
    engine.finalize_object()
    return engine, engine.get_function_address("launch")


_STUB = """
%Environment = type { ptr, ptr, ptr, ptr, ptr, ptr, [MAX_ARRAY_TYPES x ptr] }
%State = type { ptr, ptr, i64, [MAX_ARGUMENTS x i8] }
%Parameter = type { i32, i32 }
%Record = type { ptr, ptr, i32, i32, i64, i64, i64, i64, ptr, [MAX_ARGUMENTS x %Parameter] }
%Slots = type [MAX_ARGUMENTS x i64]
%Key = type [MAX_KEY_WORDS x i64]
@int = external global i8
@float = external global i8
@bool = external global i8
@tuple = external global i8
@True = external global i8
@None = external global i8
@Exception = external global i8
declare ptr @PyLong_AsVoidPtr(ptr)
declare i64 @PyLong_AsLongLongAndOverflow(ptr, ptr)
declare i64 @PyLong_AsUnsignedLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare double @PyFloat_AsDouble(ptr)
declare i64 @PyTuple_Size(ptr)
declare ptr @PyTuple_GetItem(ptr, i64)
declare ptr @PyBytes_FromStringAndSize(ptr, i64)
declare ptr @PyDict_GetItemWithError(ptr, ptr)
declare ptr @PyObject_GetAttr(ptr, ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyObject_VectorcallMethod(ptr, ptr, i64, ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare void @PyErr_Clear()
declare ptr @PyErr_Occurred()
declare i32 @PyErr_ExceptionMatches(ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)

define internal ptr @type_of(ptr %object) {
  %field = getelementptr i8, ptr %object, i64 8
  %type = load ptr, ptr %field
  ret ptr %type
}

; Stores the value of an exact int; false if it does not fit in 64 bits.
define internal i1 @read_int(ptr %object, ptr %value) {
  %overflow = alloca i32
  %number = call i64 @PyLong_AsLongLongAndOverflow(ptr %object, ptr %overflow)
  store i64 %number, ptr %value
  %outside = load i32, ptr %overflow
  %fits = icmp eq i32 %outside, 0
  ret i1 %fits
}

; Stores what object.name() returns, an int that is not negative, and gives the object back.
define internal i1 @call_method(ptr %object, ptr %name, ptr %value) {
  %arguments = alloca ptr
  store ptr %object, ptr %arguments
  %result = call ptr @PyObject_VectorcallMethod(ptr %name, ptr %arguments, i64 1, ptr null)
  %failed = icmp eq ptr %result, null
  br i1 %failed, label %unusual, label %convert
convert:
  %number = call i64 @PyLong_AsUnsignedLongLong(ptr %result)
  call void @Py_DecRef(ptr %result)
  store i64 %number, ptr %value
  %maybe_error = icmp eq i64 %number, -1
  br i1 %maybe_error, label %unusual, label %done
done:
  ret i1 true
unusual:
  ret i1 false
}

; An array: its address is the value, its dtype's address the identity. All must be on one GPU.
define internal i1 @describe_array(
    ptr %environment, ptr %object, ptr %device, ptr %facts, ptr %identity, ptr %value) {
  %own_device = alloca i64
  %p.get_device = getelementptr %Environment, ptr %environment, i32 0, i32 3
  %p.data_ptr = getelementptr %Environment, ptr %environment, i32 0, i32 4
  %p.dtype = getelementptr %Environment, ptr %environment, i32 0, i32 5
  %get_device = load ptr, ptr %p.get_device
  %data_ptr = load ptr, ptr %p.data_ptr
  %dtype_name = load ptr, ptr %p.dtype
  %has_device = call i1 @call_method(ptr %object, ptr %get_device, ptr %own_device)
  br i1 %has_device, label %compare, label %unusual
compare:
  %ordinal = load i64, ptr %own_device
  %known = load i64, ptr %device
  %first = icmp eq i64 %known, -1
  %same = icmp eq i64 %known, %ordinal
  %fine = or i1 %first, %same
  store i64 %ordinal, ptr %device
  br i1 %fine, label %address, label %unusual
address:
  %has_address = call i1 @call_method(ptr %object, ptr %data_ptr, ptr %value)
  br i1 %has_address, label %type, label %unusual
type:
  %dtype = call ptr @PyObject_GetAttr(ptr %object, ptr %dtype_name)
  %no_dtype = icmp eq ptr %dtype, null
  br i1 %no_dtype, label %unusual, label %done
done:
  ; The object, or its class, still holds the dtype.
  call void @Py_DecRef(ptr %dtype)
  %dtype_address = ptrtoint ptr %dtype to i64
  store i64 %dtype_address, ptr %identity
  %pointer = load i64, ptr %value
  %low = and i64 %pointer, 15
  %aligned = icmp eq i64 %low, 0
  %bits = select i1 %aligned, i8 21, i8 5
  store i8 %bits, ptr %facts
  ret i1 true
unusual:
  ret i1 false
}

; Facts, identity and value of one argument. Kinds: 0 other constexpr, 1 int, 2 bool, 3 float,
; 4 None, 5 array.
define internal i1 @describe(ptr %environment, ptr %object, i1 %constexpr, ptr %device,
                             ptr %facts, ptr %identity, ptr %value) {
  %type = call ptr @type_of(ptr %object)
  store i64 0, ptr %identity
  %is_int = icmp eq ptr %type, @int
  br i1 %is_int, label %integer, label %not_int
integer:
  %fits = call i1 @read_int(ptr %object, ptr %value)
  %number = load i64, ptr %value
  %counts = select i1 %constexpr, i64 %number, i64 0
  store i64 %counts, ptr %identity
  %narrow = trunc i64 %number to i32
  %back = sext i32 %narrow to i64
  %in_32 = icmp eq i64 %back, %number
  %low = and i64 %number, 15
  %divisible = icmp eq i64 %low, 0
  %lower = and i64 %number, 7
  %by_8 = icmp eq i64 %lower, 0
  %one = icmp eq i64 %number, 1
  %bit.32 = select i1 %in_32, i8 9, i8 1
  %bit.16 = select i1 %divisible, i8 16, i8 0
  %bit.1 = select i1 %one, i8 32, i8 0
  %bit.8 = select i1 %by_8, i8 64, i8 0
  %two_bits = or i8 %bit.32, %bit.16
  %three_bits = or i8 %two_bits, %bit.1
  %four_bits = or i8 %three_bits, %bit.8
  store i8 %four_bits, ptr %facts
  ret i1 %fits
not_int:
  %is_float = icmp eq ptr %type, @float
  br i1 %is_float, label %floating, label %not_float
floating:
  %double = call double @PyFloat_AsDouble(ptr %object)
  %double_bits = bitcast double %double to i64
  store i64 %double_bits, ptr %value
  %double_counts = select i1 %constexpr, i64 %double_bits, i64 0
  store i64 %double_counts, ptr %identity
  store i8 3, ptr %facts
  ret i1 true
not_float:
  br i1 %constexpr, label %other_constexpr, label %not_constexpr
other_constexpr:
  %object_address = ptrtoint ptr %object to i64
  store i64 %object_address, ptr %identity
  store i8 0, ptr %facts
  ret i1 true
not_constexpr:
  %is_none = icmp eq ptr %object, @None
  br i1 %is_none, label %none, label %not_none
none:
  store i8 4, ptr %facts
  ret i1 true
not_none:
  %is_bool = icmp eq ptr %type, @bool
  br i1 %is_bool, label %boolean, label %search
boolean:
  %is_true = icmp eq ptr %object, @True
  %truth = zext i1 %is_true to i64
  store i64 %truth, ptr %value
  store i8 2, ptr %facts
  ret i1 true
search:
  %i = phi i64 [ 0, %not_none ], [ %i.next, %next ]
  %p.known = getelementptr %Environment, ptr %environment, i32 0, i32 6, i64 %i
  %known = load ptr, ptr %p.known
  %exhausted = icmp eq ptr %known, null
  br i1 %exhausted, label %unusual, label %test
test:
  %found = icmp eq ptr %known, %type
  br i1 %found, label %array, label %next
next:
  %i.next = add i64 %i, 1
  br label %search
array:
  %understood = call i1 @describe_array(
      ptr %environment, ptr %object, ptr %device, ptr %facts, ptr %identity, ptr %value)
  ret i1 %understood
unusual:
  ret i1 false
}

; Three sizes from a tuple of one to three exact ints within the limits of CUDA.
define internal i1 @read_grid(ptr %grid, ptr %sizes) {
  %type = call ptr @type_of(ptr %grid)
  %is_tuple = icmp eq ptr %type, @tuple
  br i1 %is_tuple, label %measure, label %unusual
measure:
  %rank = call i64 @PyTuple_Size(ptr %grid)
  %above = icmp ugt i64 %rank, 3
  br i1 %above, label %unusual, label %axis
axis:
  %i = phi i64 [ 0, %measure ], [ %i.next, %next ]
  %p.size = getelementptr i64, ptr %sizes, i64 %i
  %end = icmp eq i64 %i, 3
  br i1 %end, label %done, label %choose
choose:
  store i64 1, ptr %p.size
  %given = icmp ult i64 %i, %rank
  br i1 %given, label %take, label %next
take:
  %item = call ptr @PyTuple_GetItem(ptr %grid, i64 %i)
  %item_type = call ptr @type_of(ptr %item)
  %is_int = icmp eq ptr %item_type, @int
  br i1 %is_int, label %convert, label %unusual
convert:
  %fits = call i1 @read_int(ptr %item, ptr %p.size)
  %size = load i64, ptr %p.size
  %x_axis = icmp eq i64 %i, 0
  %limit = select i1 %x_axis, i64 2147483647, i64 65535
  %within = icmp ule i64 %size, %limit
  %fine = and i1 %fits, %within
  br i1 %fine, label %next, label %unusual
next:
  %i.next = add i64 %i, 1
  br label %axis
done:
  %has_axes = icmp ne i64 %rank, 0
  ret i1 %has_axes
unusual:
  ret i1 false
}

; The given stream, or for None the one that the array library works on.
define internal i1 @read_stream(ptr %environment, ptr %stream, i64 %device, ptr %handle) {
  %is_none = icmp eq ptr %stream, @None
  br i1 %is_none, label %current, label %given
given:
  %type = call ptr @type_of(ptr %stream)
  %is_int = icmp eq ptr %type, @int
  br i1 %is_int, label %convert, label %unusual
convert:
  %fits = call i1 @read_int(ptr %stream, ptr %handle)
  ret i1 %fits
current:
  store i64 0, ptr %handle
  %p.getter = getelementptr %Environment, ptr %environment, i32 0, i32 2
  %getter = load ptr, ptr %p.getter
  %no_library = icmp eq ptr %getter, null
  br i1 %no_library, label %done, label %ask
ask:
  %arguments = alloca ptr
  %ordinal = call ptr @PyLong_FromLongLong(i64 %device)
  %no_memory = icmp eq ptr %ordinal, null
  br i1 %no_memory, label %unusual, label %call
call:
  store ptr %ordinal, ptr %arguments
  %result = call ptr @PyObject_Vectorcall(ptr %getter, ptr %arguments, i64 1, ptr null)
  call void @Py_DecRef(ptr %ordinal)
  %failed = icmp eq ptr %result, null
  br i1 %failed, label %unusual, label %answer
answer:
  %fine = call i1 @read_int(ptr %result, ptr %handle)
  call void @Py_DecRef(ptr %result)
  %error = call ptr @PyErr_Occurred()
  %no_error = icmp eq ptr %error, null
  %both = and i1 %fine, %no_error
  ret i1 %both
done:
  ret i1 true
unusual:
  ret i1 false
}

; The record of an entry of the cache.
define internal ptr @record_of(ptr %entry) {
  %address = call ptr @PyTuple_GetItem(ptr %entry, i64 1)
  %record = call ptr @PyLong_AsVoidPtr(ptr %address)
  ret ptr %record
}

; Appends the values of the guarded arguments to a key, whose new size it returns.
define internal i64 @lengthen(ptr %key, i64 %size, ptr %record, i64 %guards, ptr %values) {
  %tail = getelementptr i8, ptr %key, i64 %size
  br label %guard
guard:
  %i = phi i64 [ 0, %0 ], [ %i.next, %append ]
  %end = icmp eq i64 %i, %guards
  br i1 %end, label %done, label %append
append:
  %p.argument = getelementptr %Record, ptr %record, i32 0, i32 9, i64 %i, i32 0
  %argument = load i32, ptr %p.argument
  %p.value = getelementptr i64, ptr %values, i32 %argument
  %value = load i64, ptr %p.value
  %place = getelementptr i64, ptr %tail, i64 %i
  store i64 %value, ptr %place, align 1
  %i.next = add i64 %i, 1
  br label %guard
done:
  %bytes = mul i64 %guards, 8
  %new_size = add i64 %size, %bytes
  ret i64 %new_size
}

; The number of blocks of threads along x; false if it is beyond the limit of CUDA.
define internal i1 @count_blocks(ptr %record, ptr %sizes, ptr %blocks) {
  %p.ctas = getelementptr %Record, ptr %record, i32 0, i32 4
  %ctas = load i64, ptr %p.ctas
  %x = load i64, ptr %sizes
  %product = mul i64 %x, %ctas
  store i64 %product, ptr %blocks
  %within = icmp ule i64 %product, 2147483647
  ret i1 %within
}

; Packs the parameters, the tensor maps behind them, and calls cuLaunchKernel without the lock.
define internal i1 @fire(ptr %environment, ptr %record, ptr %sizes, i64 %stream, ptr %values) {
  %slots = alloca %Slots
  %pointers = alloca %Slots
  %blocks = alloca i64
  %p.function = getelementptr %Record, ptr %record, i32 0, i32 1
  %p.threads = getelementptr %Record, ptr %record, i32 0, i32 2
  %p.shared = getelementptr %Record, ptr %record, i32 0, i32 3
  %p.count = getelementptr %Record, ptr %record, i32 0, i32 5
  %p.map_count = getelementptr %Record, ptr %record, i32 0, i32 7
  %p.maps = getelementptr %Record, ptr %record, i32 0, i32 8
  %function = load ptr, ptr %p.function
  %threads = load i32, ptr %p.threads
  %shared = load i32, ptr %p.shared
  %count = load i64, ptr %p.count
  %map_count = load i64, ptr %p.map_count
  %maps = load ptr, ptr %p.maps
  %within = call i1 @count_blocks(ptr %record, ptr %sizes, ptr %blocks)
  br i1 %within, label %parameter, label %unusual
parameter:
  %i = phi i64 [ 0, %0 ], [ %i.next, %next ]
  %end = icmp eq i64 %i, %count
  br i1 %end, label %map, label %pack
pack:
  %p.argument = getelementptr %Record, ptr %record, i32 0, i32 9, i64 %i, i32 0
  %p.conversion = getelementptr %Record, ptr %record, i32 0, i32 9, i64 %i, i32 1
  %argument = load i32, ptr %p.argument
  %conversion = load i32, ptr %p.conversion
  %p.value = getelementptr i64, ptr %values, i32 %argument
  %value = load i64, ptr %p.value
  %slot = getelementptr i64, ptr %slots, i64 %i
  %p.pointer = getelementptr ptr, ptr %pointers, i64 %i
  store ptr %slot, ptr %p.pointer
  store i64 %value, ptr %slot
  %plain = icmp eq i32 %conversion, 0
  br i1 %plain, label %next, label %to_float
to_float:
  %double = bitcast i64 %value to double
  %float = fptrunc double %double to float
  store float %float, ptr %slot
  br label %next
next:
  %i.next = add i64 %i, 1
  br label %parameter
map:
  %j = phi i64 [ 0, %parameter ], [ %j.next, %pass ]
  %no_more = icmp eq i64 %j, %map_count
  br i1 %no_more, label %go, label %pass
pass:
  %p.map = getelementptr ptr, ptr %maps, i64 %j
  %map_address = load ptr, ptr %p.map
  %behind = add i64 %count, %j
  %p.behind = getelementptr ptr, ptr %pointers, i64 %behind
  store ptr %map_address, ptr %p.behind
  %j.next = add i64 %j, 1
  br label %map
go:
  %p.y = getelementptr i64, ptr %sizes, i64 1
  %p.z = getelementptr i64, ptr %sizes, i64 2
  %x = load i32, ptr %blocks
  %y = load i32, ptr %p.y
  %z = load i32, ptr %p.z
  %launch_kernel = load ptr, ptr %environment
  %thread_state = call ptr @PyEval_SaveThread()
  %status = call i32 %launch_kernel(ptr %function, i32 %x, i32 %y, i32 %z, i32 %threads, i32 1,
                                    i32 1, i32 %shared, i64 %stream, ptr %pointers, ptr null)
  call void @PyEval_RestoreThread(ptr %thread_state)
  %success = icmp eq i32 %status, 0
  ret i1 %success
unusual:
  ret i1 false
}

; METH_FASTCALL: self is the tuple whose first item is the address of the State.
define ptr @launch(ptr %self, ptr %arguments, i64 %given) {
  %sizes = alloca [3 x i64]
  %device = alloca i64
  %stream = alloca i64
  %context = alloca ptr
  %values = alloca %Slots
  %key = alloca %Key
  %state_object = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %state = call ptr @PyLong_AsVoidPtr(ptr %state_object)
  %p.cache = getelementptr %State, ptr %state, i32 0, i32 1
  %p.count = getelementptr %State, ptr %state, i32 0, i32 2
  %environment = load ptr, ptr %state
  %cache = load ptr, ptr %p.cache
  %count = load i64, ptr %p.count
  %expected = add i64 %count, 2
  %complete = icmp eq i64 %given, %expected
  br i1 %complete, label %begin, label %unusual
begin:
  %grid_object = load ptr, ptr %arguments
  %p.stream = getelementptr ptr, ptr %arguments, i64 1
  %stream_object = load ptr, ptr %p.stream
  store i64 -1, ptr %device
  %grid_fine = call i1 @read_grid(ptr %grid_object, ptr %sizes)
  ; The key: the device, an identity for each argument, then a byte of facts for each.
  %identities = getelementptr i64, ptr %key, i64 1
  %facts = getelementptr i64, ptr %identities, i64 %count
  br i1 %grid_fine, label %argument, label %unusual
argument:
  %i = phi i64 [ 0, %begin ], [ %i.next, %understood ]
  %end = icmp eq i64 %i, %count
  br i1 %end, label %described, label %look
look:
  %position = add i64 %i, 2
  %p.object = getelementptr ptr, ptr %arguments, i64 %position
  %object = load ptr, ptr %p.object
  %p.mask = getelementptr %State, ptr %state, i32 0, i32 3, i64 %i
  %mask = load i8, ptr %p.mask
  %constexpr = icmp slt i8 %mask, 0
  %own_facts = getelementptr i8, ptr %facts, i64 %i
  %identity = getelementptr i64, ptr %identities, i64 %i
  %value = getelementptr i64, ptr %values, i64 %i
  %fine = call i1 @describe(ptr %environment, ptr %object, i1 %constexpr, ptr %device,
                            ptr %own_facts, ptr %identity, ptr %value)
  br i1 %fine, label %understood, label %unusual
understood:
  %all_facts = load i8, ptr %own_facts
  %masked = and i8 %all_facts, %mask
  store i8 %masked, ptr %own_facts
  %i.next = add i64 %i, 1
  br label %argument
described:
  %ordinal = load i64, ptr %device
  store i64 %ordinal, ptr %key
  %somewhere = icmp ne i64 %ordinal, -1
  br i1 %somewhere, label %look_up, label %unusual
look_up:
  %nine_each = mul i64 %count, 9
  %size = add i64 %nine_each, 8
  %key_object = call ptr @PyBytes_FromStringAndSize(ptr %key, i64 %size)
  %no_memory = icmp eq ptr %key_object, null
  br i1 %no_memory, label %unusual, label %find
find:
  %entry = call ptr @PyDict_GetItemWithError(ptr %cache, ptr %key_object)
  %missed = icmp eq ptr %entry, null
  br i1 %missed, label %miss, label %hit
miss:
  ret ptr %key_object
hit:
  %first = call ptr @record_of(ptr %entry)
  %p.guards = getelementptr %Record, ptr %first, i32 0, i32 6
  %guards = load i64, ptr %p.guards
  %unguarded = icmp eq i64 %guards, 0
  br i1 %unguarded, label %found, label %guarded
guarded:
  %longer = call i64 @lengthen(
      ptr %key, i64 %size, ptr %first, i64 %guards, ptr %values)
  %long_key = call ptr @PyBytes_FromStringAndSize(ptr %key, i64 %longer)
  %still_no_memory = icmp eq ptr %long_key, null
  br i1 %still_no_memory, label %forget, label %find_again
forget:
  call void @Py_DecRef(ptr %key_object)
  br label %unusual
find_again:
  %variant = call ptr @PyDict_GetItemWithError(ptr %cache, ptr %long_key)
  call void @Py_DecRef(ptr %long_key)
  %other_values = icmp eq ptr %variant, null
  br i1 %other_values, label %miss, label %variant_found
variant_found:
  %second = call ptr @record_of(ptr %variant)
  br label %found
found:
  %held = phi ptr [ %entry, %hit ], [ %variant, %variant_found ]
  %record = phi ptr [ %first, %hit ], [ %second, %variant_found ]
  ; From here on other threads may run and drop the entry, which owns the record and its maps.
  call void @Py_IncRef(ptr %held)
  call void @Py_DecRef(ptr %key_object)
  %stream_fine = call i1 @read_stream(
      ptr %environment, ptr %stream_object, i64 %ordinal, ptr %stream)
  br i1 %stream_fine, label %check_context, label %drop
check_context:
  %p.get_context = getelementptr %Environment, ptr %environment, i32 0, i32 1
  %get_context = load ptr, ptr %p.get_context
  store ptr null, ptr %context
  %status = call i32 %get_context(ptr %context)
  %current = load ptr, ptr %context
  %needed = load ptr, ptr %record
  %right = icmp eq ptr %current, %needed
  br i1 %right, label %check_size, label %drop
check_size:
  %p.y = getelementptr i64, ptr %sizes, i64 1
  %p.z = getelementptr i64, ptr %sizes, i64 2
  %x = load i64, ptr %sizes
  %y = load i64, ptr %p.y
  %z = load i64, ptr %p.z
  %xy = mul i64 %x, %y
  %xyz = mul i64 %xy, %z
  %nothing = icmp eq i64 %xyz, 0
  br i1 %nothing, label %launched, label %go
go:
  %handle = load i64, ptr %stream
  %success = call i1 @fire(
      ptr %environment, ptr %record, ptr %sizes, i64 %handle, ptr %values)
  br i1 %success, label %launched, label %drop
launched:
  %kernel = call ptr @PyTuple_GetItem(ptr %held, i64 0)
  call void @Py_IncRef(ptr %kernel)
  call void @Py_DecRef(ptr %held)
  ret ptr %kernel
drop:
  call void @Py_DecRef(ptr %held)
  br label %unusual
unusual:
  %error = call ptr @PyErr_Occurred()
  %no_error = icmp eq ptr %error, null
  br i1 %no_error, label %return, label %judge
judge:
  %matches = call i32 @PyErr_ExceptionMatches(ptr @Exception)
  %interrupted = icmp eq i32 %matches, 0
  br i1 %interrupted, label %raise, label %clear
raise:
  ret ptr null
clear:
  call void @PyErr_Clear()
  br label %return
return:
  %nothing_known = call ptr @PyBytes_FromStringAndSize(ptr null, i64 0)
  ret ptr %nothing_known
}
"""
