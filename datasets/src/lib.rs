//! Where examples come from, how they are cleaned, how they become token sequences.

pub mod tabletop;
