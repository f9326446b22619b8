// Packed weights, which are stored once in the memory layout of a matrix product. f32 and bf16 on a CPU.
#pragma once

#include <algorithm>

#include "products.h"
#include "rows.h"

// A packed weight, [O, I], cut into pieces of Products::OUTS outputs. A product is cut into shares, so that threads
// divide it: the outputs of one piece for at most Products::ROWS rows. A share does not depend on the others (L8).
struct PackedMatrix {
  Tensor packed;
  int64_t ins = 0, outs = 0;
  const Products* products = nullptr;

  // Returns the packed weight of its parts, as Rust keeps them. `products` is null if the instruction set has none for
  // the dtype.
  static PackedMatrix of(const Tensor& packed, int64_t ins, int64_t outs, int64_t set) {
    return {packed, ins, outs, is_bf16(packed) ? bf16_products(set) : f32_products(set)};
  }

  // Returns whether there are products, and whether the packed numbers are as many as this shape has.
  bool is_whole() const { return products && packed.numel() == pieces() * Products::OUTS * stride(); }

  static bool is_bf16(const Tensor& weight) { return weight.scalar_type() == at::kBFloat16; }
  static int64_t filled(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

  int64_t pieces() const { return filled(outs, Products::OUTS) / Products::OUTS; }
  int64_t shares(int64_t rows) const { return filled(rows, Products::ROWS) / Products::ROWS * pieces(); }

  // The numbers of a row of `x` in memory, of which those behind the inputs are zeros.
  int64_t stride() const { return filled(ins, products->terms); }

  // Returns the rows of `x` that must be in memory for a product of so many.
  int64_t rows_read(int64_t rows) const { return filled(rows, products->rows_together); }

  // Computes some shares of x wᵀ, [T, O] in f32, of rows x, [T, I] in the dtype of the weight.
  void multiply(const void* x, float* y, int64_t rows, int64_t begin, int64_t end) const {
    products->begin();
    const int64_t across = pieces();
    for (int64_t share = begin; share < end; share++) {
      int64_t next = std::min(share + 1, end - 1) % across;
      multiply_share(x, y, rows, share % across, share / across, next);
    }
    products->end();
  }

  // Adds a bias, [O], to what `multiply` has written for some shares.
  void add_bias(const float* bias, float* y, int64_t rows, int64_t begin, int64_t end) const {
    const int64_t across = pieces();
    for (int64_t share = begin; share < end; share++) {
      const int64_t column = share % across * Products::OUTS, columns = std::min(Products::OUTS, outs - column);
      const int64_t from = share / across * Products::ROWS, to = std::min(from + Products::ROWS, rows);
      for (int64_t row = from; row < to; row++) add_row(y + row * outs + column, bias + column, columns);
    }
  }

 private:
  void multiply_share(const void* x, float* y, int64_t rows, int64_t piece, int64_t part, int64_t next) const {
    constexpr int64_t ROWS = Products::ROWS, OUTS = Products::OUTS;
    const int64_t bytes = packed.element_size(), across = stride(), from = part * ROWS, column = piece * OUTS;
    const int64_t count = std::min(ROWS, rows - from), columns = std::min(OUTS, outs - column);
    const char* read = static_cast<const char*>(x) + from * across * bytes;
    const char* weight = static_cast<const char*>(packed.const_data_ptr());
    const int64_t piece_bytes = OUTS * across * bytes;
    float* to = y + from * outs + column;
    // What is filled up must not be written over the numbers behind.
    const bool fits = columns == OUTS && count % products->rows_together == 0;
    alignas(64) float room[ROWS * OUTS];
    products->multiply(read, across, weight + piece * piece_bytes, weight + next * piece_bytes,
                       across / products->terms, fits ? to : room, fits ? outs : OUTS, count);
    if (fits) return;
    for (int64_t row = 0; row < count; row++) std::memcpy(to + row * outs, room + row * OUTS, columns * 4);
  }
};
