// The products of bf16 rows with packed weights: with the tiles of AMX, and with the dot products of AVX-512.
//
// Each sum adds its terms in the same order, whatever the other rows and outputs of a call are (L8).

#include "products.h"

#include "attention_tiles.h"

// Older compilers do not know these instructions.
#if defined(__x86_64__) && defined(__linux__) && (__GNUC__ >= 11 || __clang_major__ >= 14)
#define HAS_BF16_PRODUCTS 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {
#ifdef HAS_BF16_PRODUCTS

// The rows of an AMX tile, and the terms of a step.
constexpr int64_t LANE = 16, TERMS = 32;
// The numbers of a tile of the packed weight: sixteen outputs of the terms of one step.
constexpr int64_t STEP = LANE * TERMS;

// The layout of all eight tiles: 16 rows of 64 bytes.
struct alignas(64) TileLayout {
  uint8_t palette = 1, first_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

#define AMX __attribute__((target("amx-tile,amx-bf16")))

AMX void amx_begin() {
  static const TileLayout layout;
  _tile_loadconfig(&layout);
}

AMX void amx_end() { _tile_release(); }

// Four sums hide the latency of one product, so two rows of tiles go together. The tiles 0 to 3 are the sums, 4 and 5
// the rows, 6 and 7 the weights.
AMX void amx_multiply(const void* x_in, int64_t x_stride, const void* weight_in, const void*, int64_t steps, float* y,
                      int64_t y_stride, int64_t rows) {
  const uint16_t *x = static_cast<const uint16_t*>(x_in), *weight = static_cast<const uint16_t*>(weight_in);
  const bool whole = rows > LANE;
  const uint16_t *low = x + LANE * x_stride, *right = weight + STEP * steps;
  _tile_zero(0);
  _tile_zero(1);
  if (whole) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t step = 0; step < steps; step++) {
    _tile_loadd(6, weight + step * STEP, 64);
    _tile_loadd(7, right + step * STEP, 64);
    _tile_loadd(4, x + step * TERMS, x_stride * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (whole) {
      _tile_loadd(5, low + step * TERMS, x_stride * 2);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, y, y_stride * 4);
  _tile_stored(1, y + LANE, y_stride * 4);
  if (whole) {
    _tile_stored(2, y + LANE * y_stride, y_stride * 4);
    _tile_stored(3, y + LANE * y_stride + LANE, y_stride * 4);
  }
}

constexpr Products amx_products{TERMS, LANE, amx_begin, amx_end, amx_multiply};

void nothing() {}

constexpr int64_t TOGETHER = 8;

// TOGETHER rows by two registers of outputs.
__attribute__((target("avx512f,avx512bw,avx512bf16"))) void dot_multiply(const void* x_in, int64_t x_stride,
                                                                         const void* weight_in, const void*,
                                                                         int64_t steps, float* y, int64_t y_stride,
                                                                         int64_t rows) {
  const uint16_t *x = static_cast<const uint16_t*>(x_in), *weight = static_cast<const uint16_t*>(weight_in);
  const uint16_t* right = weight + STEP * steps;
  for (int64_t row = 0; row < rows; row += TOGETHER) {
    __m512 sums[TOGETHER][2];
#pragma GCC unroll 8
    for (int64_t i = 0; i < TOGETHER; i++) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < steps * TERMS / 2; pair++) {
      const __m512bh a = (__m512bh)_mm512_loadu_si512(weight + pair * 2 * LANE);
      const __m512bh b = (__m512bh)_mm512_loadu_si512(right + pair * 2 * LANE);
#pragma GCC unroll 8
      for (int64_t i = 0; i < TOGETHER; i++) {
        int32_t two;
        __builtin_memcpy(&two, x + (row + i) * x_stride + 2 * pair, 4);
        const __m512bh factor = (__m512bh)_mm512_set1_epi32(two);
        sums[i][0] = _mm512_dpbf16_ps(sums[i][0], factor, a);
        sums[i][1] = _mm512_dpbf16_ps(sums[i][1], factor, b);
      }
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < TOGETHER; i++) {
      _mm512_storeu_ps(y + (row + i) * y_stride, sums[i][0]);
      _mm512_storeu_ps(y + (row + i) * y_stride + LANE, sums[i][1]);
    }
  }
}

constexpr Products dot_products{TERMS, TOGETHER, nothing, nothing, dot_multiply};

// Returns whether the processor has tiles with bf16 products, and Linux lets this process use them. Linux keeps room
// for them only for processes that ask.
bool has_amx() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
  constexpr long ASK = 0x1023, TILE_DATA = 18;
  return syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
}
#endif
}  // namespace

const Products* bf16_products(int64_t set) {
#ifdef HAS_BF16_PRODUCTS
  static const bool amx = has_amx(), dots = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw");
  if (set == AMX_BF16) return amx && dots ? &amx_products : nullptr;
  if (set == AVX512_BF16) return dots ? &dot_products : nullptr;
#endif
  return nullptr;
}
