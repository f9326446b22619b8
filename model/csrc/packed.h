// Packed weights, which are stored once in the memory layout of the matrix library. f32 on a CPU.
//
// The library is MKL, which libtorch contains and whose packed interface it exports. A libtorch without MKL (on another
// processor family) lacks these symbols, so they are looked up at run time.
#pragma once

#include <dlfcn.h>

#include "rows.h"

// Integers are passed in registers and stack slots of eight bytes, so these signatures fit MKL with 32-bit and 64-bit
// integers.
using PackedBytes = size_t (*)(int identifier, int64_t m, int64_t n, int64_t k);
using Pack = void (*)(int layout, int identifier, int transposed, int64_t m, int64_t n, int64_t k, float alpha,
                      const float* from, int64_t stride, float* packed);
using Compute = void (*)(int layout, int a_is, int b_is, int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride,
                         const float* b, int64_t b_stride, float beta, float* c, int64_t c_stride);

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
  // The number of rows that a weight is packed for. The layout does not depend on it
  // (`tests/model/network/packed_weights.rs`).
  static constexpr int64_t ROWS = 32;
  // The outputs of a piece are a multiple of this, and so are the rows of a part, because then the library adds the
  // terms of each number in the same order whatever the pieces and parts are.
  static constexpr int64_t COLUMNS = 16, ROWS_TOGETHER = 4;
  // Fewer outputs are no piece, and fewer rows no part: a thread costs more.
  static constexpr int64_t LEAST_COLUMNS = 64, LEAST_ROWS = 32;

  Tensor bytes;
  int64_t ins = 0, outs = 0, pieces = 1;

  // Returns the number of pieces for so many threads.
  static int64_t pieces_for(int64_t outs, int64_t threads) {
    return std::max<int64_t>(1, std::min(threads, outs / LEAST_COLUMNS));
  }

  // Returns the first output of a piece, or the number of outputs behind the last piece.
  int64_t first(int64_t piece) const {
    if (piece == pieces) return outs;
    return outs * piece / pieces / COLUMNS * COLUMNS;
  }

  float* packed(int64_t piece) const {
    return reinterpret_cast<float*>(static_cast<char*>(bytes.mutable_data_ptr()) + bytes.numel() / pieces * piece);
  }

  // Returns the number of parts that a product's rows are cut into, so that each of the threads has something to
  // compute.
  int64_t parts(int64_t rows, int64_t threads) const {
    return std::max<int64_t>(1, std::min((threads + pieces - 1) / pieces, rows / LEAST_ROWS));
  }

  // Computes a share of x wᵀ, [T, O], of rows x, [T, I]: the outputs of one piece for one part of the rows.
  void multiply(const float* x, float* y, int64_t rows, int64_t share, int64_t parts) const {
    int64_t piece = share % pieces, part = share / pieces;
    auto edge = [&](int64_t at) { return at == parts ? rows : rows * at / parts / ROWS_TOGETHER * ROWS_TOGETHER; };
    int64_t from = edge(part), count = edge(part + 1) - from, column = first(piece), columns = first(piece + 1) - column;
    packing_library().compute(ROW_MAJOR, AS_IT_IS, PACKED, count, columns, ins, x + from * ins, ins, packed(piece), columns,
                              0.0f, y + from * outs + column, outs);
  }
};
