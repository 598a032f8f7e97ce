"""The code generators: IR becomes LLVM IR, then PTX or native CPU code."""
