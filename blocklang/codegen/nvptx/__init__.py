"""Code for NVIDIA GPUs: LLVM IR, PTX and machine code."""
