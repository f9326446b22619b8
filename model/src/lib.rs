//! libtorch: one concept a file; the demask-engine program.
