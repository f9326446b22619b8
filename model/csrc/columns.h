// Columns of the tables that Rust and C++ exchange: named here for C++ and in `src/device/kernels/columns.rs` for Rust, in the
// same order, which a test there holds.
#pragma once

#include <cstdint>

// What attention computes of one row: i64 [chunks, CHUNK_COLUMNS].
enum ChunkColumn : int64_t {
  CHUNK_SLOT,      // where its keys and values are kept
  CHUNK_FIRST,     // first of its computed positions among all of the forward pass
  CHUNK_COUNT,     // how many are computed
  CHUNK_KEYS,      // how many places the row has
  CHUNK_SOFT_PAD,  // how many of them, from the first on, are padding that is merely weaker
  CHUNK_COLUMNS,
};

// A computed position: i64 [T, PLACE_COLUMNS].
enum PlaceColumn : int64_t {
  PLACE_SLOT,      // where its key and value are kept
  PLACE_IN_SLOT,   // at which place there
  PLACE_POSITION,  // position of the rotary embedding
  PLACE_COLUMNS,
};

// What is drawn from a row of logits: f32 [N, MEASURE_COLUMNS].
enum MeasureColumn : int64_t {
  MEASURE_PROBABILITY,  // of the drawn column, without temperature
  MEASURE_BEST,         // of the likeliest column that may be drawn
  MEASURE_NEXT,         // of the next likeliest
  MEASURE_ENTROPY,      // of the row, nats
  MEASURE_REST,         // what the drawn column leaves to all others, exact where that is little
  MEASURE_BEST_REST,    // what the likeliest leaves to all others
  MEASURE_TOKEN,        // the drawn column
  MEASURE_COLUMNS,
};
