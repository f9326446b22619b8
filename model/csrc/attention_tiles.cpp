// The attention tiles of all instruction sets, from one template. A tile of Q queries and V vectors keeps Q V
// sums in registers, beside V vectors of a row and one factor.
//
// Every sum adds its terms in the same order, whatever the size of the tile. The result of a query therefore
// does not depend on the other queries of its tile (L8).

#include "attention_tiles.h"

#include "bf16_products.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_X86_TILES 1
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

namespace {

// For each instruction set: the type of an unaligned vector, its number of floats, the most queries of a
// tile, and the most sums that fit into the registers.

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

// The number of vectors of a tile: a power of two, so that it divides places and widths.
template <typename Set> constexpr int64_t vectors(int64_t queries) {
  return queries * 4 <= Set::SUMS ? 4 : queries * 2 <= Set::SUMS ? 2 : 1;
}

// Computes sums[i][v], the sum over `terms` of by[i][term] * rows[term][v], for Q rows of factors and V
// vectors of each row.
template <typename Set, int64_t Q, int64_t V>
INLINE void tile(const float* by, int64_t by_stride, const float* rows, int64_t row_stride, float* sums_out,
                 int64_t out_stride, int64_t terms) {
  using Vec = typename Set::Vec;
  Vec sums[Q][V] = {};
  for (int64_t term = 0; term < terms; term++) {
    Vec row[V];
    UNROLL for (int64_t v = 0; v < V; v++) {
      row[v] = *reinterpret_cast<const Vec*>(rows + term * row_stride + v * Set::LANE);
    }
    UNROLL for (int64_t i = 0; i < Q; i++) {
      const float factor = by[i * by_stride + term];
      UNROLL for (int64_t v = 0; v < V; v++) sums[i][v] += factor * row[v];
    }
  }
  UNROLL for (int64_t i = 0; i < Q; i++) {
    UNROLL for (int64_t v = 0; v < V; v++) {
      *reinterpret_cast<Vec*>(sums_out + i * out_stride + v * Set::LANE) = sums[i][v];
    }
  }
}

// Computes all columns from `at` to `columns`, a multiple of the vector's length: V vectors at a time, then V
// / 2, and so on.
template <typename Set, int64_t Q, int64_t V>
INLINE void columns_from(int64_t at, int64_t columns, const float* by, int64_t by_stride, const float* rows,
                         int64_t row_stride, float* sums, int64_t out_stride, int64_t terms) {
  for (; at + V * Set::LANE <= columns; at += V * Set::LANE)
    tile<Set, Q, V>(by, by_stride, rows + at, row_stride, sums + at, out_stride, terms);
  if constexpr (V > 1)
    columns_from<Set, Q, V / 2>(at, columns, by, by_stride, rows, row_stride, sums, out_stride, terms);
}

// Computes the product of `queries` rows of factors with all columns.
template <typename Set, int64_t Q = Set::QUERIES>
INLINE void product(int64_t queries, int64_t columns, const float* by, int64_t by_stride, const float* rows,
                    int64_t row_stride, float* sums, int64_t out_stride, int64_t terms) {
  if (queries == Q) {
    columns_from<Set, Q, vectors<Set>(Q)>(0, columns, by, by_stride, rows, row_stride, sums, out_stride, terms);
  } else if constexpr (Q > 1) {
    product<Set, Q - 1>(queries, columns, by, by_stride, rows, row_stride, sums, out_stride, terms);
  }
}

// `TARGET` allows the compiler to use the instruction set in these two functions and everything inlined into them.
#define TILES(Set, TARGET)                                                                                   \
  TARGET void scores_##Set(const float* q, const float* keys, float* scores, int64_t queries, int64_t width, \
                           int64_t places, int64_t count) {                                                  \
    int64_t columns = (count + Set::LANE - 1) / Set::LANE * Set::LANE;                                       \
    product<Set>(queries, columns, q, width, keys, places, scores, places, width);                           \
  }                                                                                                          \
  TARGET void mix_##Set(const float* p, const float* values, float* mixed, int64_t queries, int64_t wide,    \
                        int64_t places, int64_t count) {                                                     \
    product<Set>(queries, wide, p, places, values, wide, mixed, wide, count);                                \
  }                                                                                                          \
  constexpr AttentionTiles tiles_##Set{Set::QUERIES, scores_##Set, mix_##Set};

#ifdef HAS_X86_TILES
TILES(Avx512, __attribute__((target("avx512f,fma"))))
TILES(Avx2, __attribute__((target("avx2,fma"))))
#endif
TILES(Plain, )

}  // namespace

const AttentionTiles* attention_tiles(int64_t set) {
  switch (set) {
#ifdef HAS_X86_TILES
    case AMX_BF16:
    case AVX512_BF16:
    case AVX512: return __builtin_cpu_supports("avx512f") ? &tiles_Avx512 : nullptr;
    case AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &tiles_Avx2 : nullptr;
#endif
    case PLAIN: return &tiles_Plain;
    default: return nullptr;
  }
}

extern "C" bool demask_has_kernels(int64_t set) {
  bool multiplies_bf16 = set == AMX_BF16 || set == AVX512_BF16;
  return attention_tiles(set) != nullptr && (!multiplies_bf16 || bf16_products(set) != nullptr);
}
