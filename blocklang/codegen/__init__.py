"""Code generation: block IR to LLVM IR for NVIDIA GPUs (`nvptx`) and for the host (`cpu`)."""
