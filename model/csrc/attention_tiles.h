// The matrix products of attention over the KV cache, one implementation for each instruction set, with tiles
// that fit its registers. They work on f32 arrays, not on tensors.
//
// Legend: Q queries of a tile, E head width, C places of a slot. Keys are [E, C] and values [C, E'], where C
// is a multiple of 32 and E' of 16. Only the first `count` places are read, rounded up to 16.
#pragma once

#include <cstdint>

struct AttentionTiles {
  // The most queries of a tile.
  int64_t queries;
  // Computes the scores q k, [Q, C], of queries, [Q, E].
  void (*scores)(const float* q, const float* keys, float* scores, int64_t queries, int64_t width, int64_t places,
                 int64_t count);
  // Computes the mean of the values weighted by probabilities, [Q, C]: [Q, E'].
  void (*mix)(const float* p, const float* values, float* mixed, int64_t queries, int64_t wide, int64_t places,
              int64_t count);
};

// The instruction sets, numbered as in `kernel_set.rs`.
enum KernelSet : int64_t { AMX_BF16, AVX512_BF16, AVX512, AVX2, PLAIN };

// Returns the implementation for an instruction set, or null if this processor or build does not support it.
const AttentionTiles* attention_tiles(int64_t set);
