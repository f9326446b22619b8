// Matrix products of rows with packed weights, one implementation for each instruction set and dtype. The sums are in
// f32. They work on arrays, not on tensors.
//
// A weight, [O, I], is packed so that the outputs of one call lie side by side for each input: f32 as [O / 32, I, 32],
// bf16 as [O / 16, I / 2, 16, 2], where sixteen outputs of two inputs are a register of AVX-512 and a row of an AMX
// tile. O is filled up to a multiple of 32 with zeros, and in bf16 so is I.
#pragma once

#include <cstdint>

struct Products {
  // The most rows and the outputs that one call computes.
  static constexpr int64_t ROWS = 32, OUTS = 32;

  // The terms of one step. Rows and weights are filled up to a multiple of it with zeros.
  int64_t terms;
  // A call reads and writes rows up to a multiple of this. What those behind the last one hold does not matter.
  int64_t rows_together;
  // Prepare this thread for calls, and end that.
  void (*begin)();
  void (*end)();
  // Computes x wᵀ for at most ROWS rows x, in the dtype of the weight, by the OUTS outputs of the packed weight that
  // begin at `weight`. `next` is the weight of the thread's next call.
  void (*multiply)(const void* x, int64_t x_stride, const void* weight, const void* next, int64_t steps, float* y,
                   int64_t y_stride, int64_t rows);
};

// Return the products of an instruction set of `attention_tiles.h`, or null if the set or this processor has none.
const Products* f32_products(int64_t set);
const Products* bf16_products(int64_t set);
