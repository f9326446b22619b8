// Matrix products of bf16 rows with packed bf16 weights, added in f32, for processors with instructions for them. They
// work on arrays, not on tensors.
//
// A weight, [O, I], is packed as [O / 16, I / 2, 16, 2]: sixteen outputs of two inputs lie side by side, which is a
// register of AVX-512 and a row of an AMX tile. Both O and I are filled up to multiples of 32 with zeros.
#pragma once

#include <cstdint>

struct Bf16Products {
  // The rows and the outputs that one call computes.
  static constexpr int64_t ROWS = 32, OUTS = 32;
  // The terms of one step. Rows are filled up to a multiple of it with zeros.
  static constexpr int64_t TERMS = 32;
  // A call reads rows up to a multiple of this. What those behind the last one hold does not matter.
  static constexpr int64_t ROWS_READ = 16;

  // Prepare this thread for calls, and end that.
  void (*begin)();
  void (*end)();
  // Computes x wᵀ for ROWS rows, or ROWS_READ if `whole` is false, by the OUTS outputs of the packed weight that begin
  // at `weight`, with `steps` times TERMS terms.
  void (*multiply)(const uint16_t* x, int64_t x_stride, const uint16_t* weight, int64_t steps, float* y,
                   int64_t y_stride, bool whole);
};

// Returns the products of an instruction set of `attention_tiles.h`, or null if the set or this processor has none.
const Bf16Products* bf16_products(int64_t set);
