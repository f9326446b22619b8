//! Is the answer right, is the picture good: verifiers, metrics, how rewards combine.
