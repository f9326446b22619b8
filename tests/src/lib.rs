//! End to end, through the built programs.
