// The columns of the tables that Rust and C++ exchange. `src/device/kernels/columns.rs` names the same columns in the
// same order for Rust, and a test there checks that.
#pragma once

#include <cstdint>

// The part of a row that attention computes: i64 [chunks, CHUNK_COLUMNS].
enum ChunkColumn : int64_t {
  CHUNK_SLOT,      // the cache slot of its keys and values
  CHUNK_FIRST,     // the index of its first computed position among all of the forward pass
  CHUNK_COUNT,     // the number of computed positions
  CHUNK_KEYS,      // the number of places of the row
  CHUNK_SOFT_PAD,  // the number of leading places that are soft padding
  CHUNK_COLUMNS,
};

// A computed position: i64 [T, PLACE_COLUMNS].
enum PlaceColumn : int64_t {
  PLACE_SLOT,      // the cache slot of its key and value
  PLACE_IN_SLOT,   // the place in the slot
  PLACE_POSITION,  // the position for the rotary embedding
  PLACE_COLUMNS,
};

// The measures, which are the result of a draw from a row of logits: f32 [N, MEASURE_COLUMNS].
enum MeasureColumn : int64_t {
  MEASURE_PROBABILITY,  // the probability of the drawn column, without temperature
  MEASURE_BEST,         // the probability of the likeliest column that may be drawn
  MEASURE_NEXT,         // the probability of the second likeliest column that may be drawn
  MEASURE_ENTROPY,      // the entropy of the row, in nats
  MEASURE_REST,         // the sum of the probabilities of all other columns than the drawn one, precise if it is small
  MEASURE_BEST_REST,    // the sum of the probabilities of all other columns than the likeliest one
  MEASURE_TOKEN,        // the drawn column
  MEASURE_COLUMNS,
};
