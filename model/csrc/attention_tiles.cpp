// The attention tiles of all instruction sets.

#include "attention_tiles.h"

#include "products.h"
#include "register_tiles.h"

namespace {

// `TARGET` allows the compiler to use the instruction set in these two functions and everything inlined into them.
#define TILES(Set, TARGET)                                                                                   \
  TARGET void scores_##Set(const float* q, const float* keys, float* scores, int64_t queries, int64_t width, \
                           int64_t places, int64_t count) {                                                  \
    int64_t columns = (count + Set::LANE - 1) / Set::LANE * Set::LANE;                                       \
    NoFetch none;                                                                                            \
    product<Set>(queries, columns, q, width, keys, places, scores, places, width, none);                     \
  }                                                                                                          \
  TARGET void mix_##Set(const float* p, const float* values, float* mixed, int64_t queries, int64_t wide,    \
                        int64_t places, int64_t count) {                                                     \
    NoFetch none;                                                                                            \
    product<Set>(queries, wide, p, places, values, wide, mixed, wide, count, none);                          \
  }                                                                                                          \
  constexpr AttentionTiles tiles_##Set{Set::QUERIES, scores_##Set, mix_##Set};

#ifdef HAS_X86_TILES
TILES(Avx512, AVX512_TARGET)
TILES(Avx2, AVX2_TARGET)
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
