// The products of f32 rows with packed weights, for all instruction sets.
//
// A matrix library does these too, but packs the rows at each call, and reads a weight that lies in no cache at half
// the rate (`tests/benches/LOG.md`).

#include <algorithm>

#include "attention_tiles.h"
#include "products.h"
#include "register_tiles.h"

namespace {

void nothing() {}

// Divides the rows evenly into tiles. What is fetched is spread over all tiles, so that a weight that lies in no cache
// is read while the one before is multiplied, and not in bursts between.
template <typename Set>
INLINE void multiply(const float* x, int64_t x_stride, const float* weight, const float* next, int64_t terms, float* y,
                     int64_t y_stride, int64_t rows) {
  constexpr int64_t OUTS = Products::OUTS;
  int64_t parts = (rows + Set::QUERIES - 1) / Set::QUERIES;
  int64_t columns = std::min(OUTS, Set::LANE * vectors<Set>((rows + parts - 1) / parts));
  int64_t tiles = parts * (OUTS / columns);
  Fetch fetched{next, (OUTS + tiles - 1) / tiles};
  for (int64_t part = 0; part < parts; part++) {
    int64_t from = rows * part / parts, count = rows * (part + 1) / parts - from;
    product<Set>(count, OUTS, x + from * x_stride, x_stride, weight, OUTS, y + from * y_stride, y_stride, terms,
                 fetched);
  }
}

#define PRODUCTS(Set, TARGET)                                                                                      \
  TARGET void multiply_##Set(const void* x, int64_t x_stride, const void* weight, const void* next, int64_t steps, \
                             float* y, int64_t y_stride, int64_t rows) {                                           \
    multiply<Set>(static_cast<const float*>(x), x_stride, static_cast<const float*>(weight),                       \
                  static_cast<const float*>(next), steps, y, y_stride, rows);                                      \
  }                                                                                                                \
  constexpr Products products_##Set{1, 1, nothing, nothing, multiply_##Set};

#ifdef HAS_X86_TILES
PRODUCTS(Avx512, AVX512_TARGET)
PRODUCTS(Avx2, AVX2_TARGET)
#endif
PRODUCTS(Plain, )

}  // namespace

const Products* f32_products(int64_t set) {
  // A set with attention tiles here has products too.
  if (!attention_tiles(set)) return nullptr;
  switch (set) {
#ifdef HAS_X86_TILES
    case AMX_BF16:
    case AVX512_BF16:
    case AVX512: return &products_Avx512;
    case AVX2: return &products_Avx2;
#endif
    default: return &products_Plain;
  }
}
