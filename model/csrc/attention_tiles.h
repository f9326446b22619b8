// The products of attention over kept keys and values, in one form for each instruction set, whose tiles fill its registers and
// no more. No tensors here: rows of f32.
//
// Legend: Q queries of a tile, E head width, C places of a slot. Keys are [E, C] and values [C, E'], C a multiple of 32 and E'
// of 16; only the first `count` places are read, rounded up to 16.
#pragma once

#include <cstdint>

struct AttentionTiles {
  // The most queries of a tile.
  int64_t queries;
  // Scores [Q, C] of queries [Q, E]: q k.
  void (*scores)(const float* q, const float* keys, float* scores, int64_t queries, int64_t width, int64_t places, int64_t count);
  // Values weighed by probabilities [Q, C]: [Q, E'].
  void (*mix)(const float* p, const float* values, float* mixed, int64_t queries, int64_t wide, int64_t places, int64_t count);
};

// As `kernel_set.rs` numbers them.
enum KernelSet : int64_t { AVX512, AVX2, PLAIN };

// The form for an instruction set, or null where this processor or build has none.
const AttentionTiles* attention_tiles(int64_t set);
