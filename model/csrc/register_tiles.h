// Products of small matrices whose sums stay in the registers of an instruction set. A tile of Q rows of factors and V
// vectors keeps Q V sums, beside V vectors of a row and one factor. Attention and packed weights are made of them.
//
// Every sum adds its terms in the same order, whatever the size of the tile. The result of a row of factors therefore
// does not depend on the other rows of its tile (L8).
//
// Whoever includes this defines functions with the instruction set as their target; all of this is inlined there.
#pragma once

#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_X86_TILES 1
#define AVX512_TARGET __attribute__((target("avx512f,fma")))
#define AVX2_TARGET __attribute__((target("avx2,fma")))
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

namespace {

// For each instruction set: the type of an unaligned vector, its number of floats, the most rows of factors of a tile,
// and the most sums that fit into the registers.

struct Avx512 {
  typedef float Vec __attribute__((vector_size(64), aligned(4), may_alias));
  static constexpr int64_t LANE = 16, QUERIES = 8, SUMS = 24;
};

struct Avx2 {
  typedef float Vec __attribute__((vector_size(32), aligned(4), may_alias));
  static constexpr int64_t LANE = 8, QUERIES = 6, SUMS = 12;
};

// Vectors of every processor: SSE2 or NEON.
struct Plain {
  typedef float Vec __attribute__((vector_size(16), aligned(4), may_alias));
  static constexpr int64_t LANE = 4, QUERIES = 4, SUMS = 8;
};

// The number of vectors of a tile: a power of two, so that it divides columns.
template <typename Set> constexpr int64_t vectors(int64_t queries) {
  return queries * 4 <= Set::SUMS ? 4 : queries * 2 <= Set::SUMS ? 2 : 1;
}

// What is fetched from memory while tiles are computed: `step` floats a term, from `at` on.
struct Fetch {
  const float* at;
  int64_t step;
};

// Fetches nothing.
struct NoFetch {};

INLINE void fetch(const NoFetch&, int64_t) {}
INLINE void fetch(const Fetch& next, int64_t term) { __builtin_prefetch(next.at + term * next.step, 0, 2); }
INLINE void advance(NoFetch&, int64_t) {}
INLINE void advance(Fetch& next, int64_t terms) { next.at += terms * next.step; }

// Computes sums[i][v], the sum over `terms` of by[i][term] * rows[term][v], for Q rows of factors and V vectors of each
// row.
template <typename Set, int64_t Q, int64_t V, typename Next>
INLINE void tile(const float* by, int64_t by_stride, const float* rows, int64_t row_stride, float* sums_out,
                 int64_t out_stride, int64_t terms, Next& next) {
  using Vec = typename Set::Vec;
  Vec sums[Q][V] = {};
  for (int64_t term = 0; term < terms; term++) {
    Vec row[V];
    UNROLL for (int64_t v = 0; v < V; v++)
      row[v] = *reinterpret_cast<const Vec*>(rows + term * row_stride + v * Set::LANE);
    fetch(next, term);
    UNROLL for (int64_t i = 0; i < Q; i++) {
      const float factor = by[i * by_stride + term];
      UNROLL for (int64_t v = 0; v < V; v++) sums[i][v] += factor * row[v];
    }
  }
  advance(next, terms);
  UNROLL for (int64_t i = 0; i < Q; i++)
    UNROLL for (int64_t v = 0; v < V; v++)
      *reinterpret_cast<Vec*>(sums_out + i * out_stride + v * Set::LANE) = sums[i][v];
}

// Computes all columns from `at` to `columns`, a multiple of the vector's length: V vectors at a time, then V / 2, and
// so on.
template <typename Set, int64_t Q, int64_t V, typename Next>
INLINE void columns_from(int64_t at, int64_t columns, const float* by, int64_t by_stride, const float* rows,
                         int64_t row_stride, float* sums, int64_t out_stride, int64_t terms, Next& next) {
  for (; at + V * Set::LANE <= columns; at += V * Set::LANE)
    tile<Set, Q, V>(by, by_stride, rows + at, row_stride, sums + at, out_stride, terms, next);
  if constexpr (V > 1)
    columns_from<Set, Q, V / 2>(at, columns, by, by_stride, rows, row_stride, sums, out_stride, terms, next);
}

// Computes the product of at most Q rows of factors with all columns.
template <typename Set, typename Next, int64_t Q = Set::QUERIES>
INLINE void product(int64_t queries, int64_t columns, const float* by, int64_t by_stride, const float* rows,
                    int64_t row_stride, float* sums, int64_t out_stride, int64_t terms, Next& next) {
  if (queries == Q) {
    columns_from<Set, Q, vectors<Set>(Q)>(0, columns, by, by_stride, rows, row_stride, sums, out_stride, terms, next);
  } else if constexpr (Q > 1) {
    product<Set, Next, Q - 1>(queries, columns, by, by_stride, rows, row_stride, sums, out_stride, terms, next);
  }
}

}  // namespace
