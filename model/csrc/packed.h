// Packed weights, which are stored once in the memory layout of a matrix product. f32 and bf16 on a CPU.
//
// In f32 the product is that of MKL, which libtorch contains and whose packed interface it exports. A libtorch without
// MKL (on another processor family) lacks these symbols, so they are looked up at run time. MKL has no packed interface
// for bf16, so the products of `bf16_products.h` take its place.
#pragma once

#include <dlfcn.h>

#include "bf16_products.h"
#include "rows.h"

// Integers are passed in registers and stack slots of eight bytes, so these signatures fit MKL with 32-bit and 64-bit
// integers.
using PackedBytes = size_t (*)(int identifier, int64_t m, int64_t n, int64_t k);
using Pack = void (*)(int layout, int identifier, int transposed, int64_t m, int64_t n, int64_t k, float alpha,
                      const float* from, int64_t stride, float* packed);
using Compute = void (*)(int layout, int a_is, int b_is, int64_t m, int64_t n, int64_t k, const float* a,
                         int64_t a_stride, const float* b, int64_t b_stride, float beta, float* c, int64_t c_stride);

struct PackingLibrary {
  PackedBytes bytes = reinterpret_cast<PackedBytes>(dlsym(RTLD_DEFAULT, "cblas_sgemm_pack_get_size"));
  Pack pack = reinterpret_cast<Pack>(dlsym(RTLD_DEFAULT, "cblas_sgemm_pack"));
  Compute compute = reinterpret_cast<Compute>(dlsym(RTLD_DEFAULT, "cblas_sgemm_compute"));

  bool packs() const { return bytes && pack && compute; }
};

inline const PackingLibrary& packing_library() {
  static const PackingLibrary found;
  return found;
}

// A packed weight, [O, I], cut by its outputs into pieces of nearly the same size, so that threads share a product of
// few rows.
struct PackedMatrix {
  static constexpr int ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112, PACKED = 151, RIGHT_SIDE = 162;
  // The number of rows that an f32 weight is packed for. The layout does not depend on it
  // (`tests/model/network/packed_weights.rs`).
  static constexpr int64_t ROWS = 32;
  // In f32 the outputs of a piece are a multiple of this, and so are the rows of a part, because then the library adds
  // the terms of each number in the same order whatever the pieces and parts are.
  static constexpr int64_t COLUMNS = 16, ROWS_TOGETHER = 4;
  // Fewer outputs are no piece, and fewer rows no part: a thread costs more.
  static constexpr int64_t LEAST_COLUMNS = 64, LEAST_ROWS = 32;

  Tensor packed;
  int64_t ins = 0, outs = 0, pieces = 1;
  // The products of a bf16 weight; null in f32.
  const Bf16Products* products = nullptr;

  // Returns the number of pieces for so many threads.
  int64_t pieces_for(int64_t threads) const {
    if (products) return (outs + Bf16Products::OUTS - 1) / Bf16Products::OUTS;
    return std::max<int64_t>(1, std::min(threads, outs / LEAST_COLUMNS));
  }

  // Returns the first output of a piece, or the number of outputs behind the last piece.
  int64_t first(int64_t piece) const {
    if (piece == pieces) return outs;
    if (products) return piece * Bf16Products::OUTS;
    return outs * piece / pieces / COLUMNS * COLUMNS;
  }

  // The numbers of a row of `x` in memory, of which those behind the inputs are zeros.
  int64_t stride() const {
    return products ? (ins + Bf16Products::TERMS - 1) / Bf16Products::TERMS * Bf16Products::TERMS : ins;
  }

  // Returns the rows of `x` that must be in memory for a product of so many.
  int64_t rows_read(int64_t rows) const {
    int64_t together = products ? Bf16Products::ROWS_READ : ROWS_TOGETHER;
    return (rows + together - 1) / together * together;
  }

  template <typename T> T* piece_of(int64_t piece) const { return out<T>(packed) + packed.numel() / pieces * piece; }

  // Returns the number of parts that a product's rows are cut into, so that each of the threads has something to
  // compute.
  int64_t parts(int64_t rows, int64_t threads) const {
    if (products) return (rows + Bf16Products::ROWS - 1) / Bf16Products::ROWS;
    return std::max<int64_t>(1, std::min((threads + pieces - 1) / pieces, rows / LEAST_ROWS));
  }

  // Computes some shares of x wᵀ, [T, O] in f32, of rows x, [T, I] in the dtype of the weight. A share is the outputs
  // of one piece for one part of the rows. In f32 the rows are a multiple of ROWS_TOGETHER.
  void multiply(const void* x, float* y, int64_t rows, int64_t begin, int64_t end, int64_t parts) const {
    if (products) products->begin();
    for (int64_t share = begin; share < end; share++) {
      int64_t piece = share % pieces, part = share / pieces;
      if (products) multiply_bf16(static_cast<const uint16_t*>(x), y, rows, piece, part);
      else multiply_f32(static_cast<const float*>(x), y, rows, piece, part, parts);
    }
    if (products) products->end();
  }

  // Returns the packed weight of its parts, as Rust keeps them.
  static PackedMatrix of(const Tensor& packed, int64_t ins, int64_t outs, int64_t pieces, int64_t set) {
    return {packed, ins, outs, pieces, packed.scalar_type() == at::kBFloat16 ? bf16_products(set) : nullptr};
  }

 private:
  void multiply_f32(const float* x, float* y, int64_t rows, int64_t piece, int64_t part, int64_t parts) const {
    auto edge = [&](int64_t at) { return at == parts ? rows : rows * at / parts / ROWS_TOGETHER * ROWS_TOGETHER; };
    int64_t from = edge(part), count = edge(part + 1) - from, column = first(piece),
            columns = first(piece + 1) - column;
    packing_library().compute(ROW_MAJOR, AS_IT_IS, PACKED, count, columns, ins, x + from * ins, ins,
                              piece_of<float>(piece), columns, 0.0f, y + from * outs + column, outs);
  }

  void multiply_bf16(const uint16_t* x, float* y, int64_t rows, int64_t piece, int64_t part) const {
    constexpr int64_t ROWS = Bf16Products::ROWS, OUTS = Bf16Products::OUTS;
    int64_t from = part * ROWS, count = std::min(ROWS, rows - from), column = first(piece),
            columns = first(piece + 1) - column;
    float* to = y + from * outs + column;
    bool fits = columns == OUTS && count % Bf16Products::ROWS_READ == 0;
    alignas(64) float room[ROWS * OUTS];
    products->multiply(x + from * stride(), stride(), piece_of<uint16_t>(piece), stride() / Bf16Products::TERMS,
                       fits ? to : room, fits ? outs : OUTS, count > Bf16Products::ROWS_READ);
    if (fits) return;
    for (int64_t row = 0; row < count; row++) std::memcpy(to + row * outs, room + row * OUTS, columns * 4);
  }
};
