// Matrix products with packed weights.

#include "packed.h"

// Packs a weight, [O, I], in pieces for the threads of the caller.
static PackedMatrix packed(const Tensor& weight_in) {
  Tensor weight = weight_in.contiguous();
  TORCH_CHECK(weight.dim() == 2 && weight.scalar_type() == at::kFloat && weight.device().is_cpu(), "pack: misshapen");
  PackedMatrix matrix;
  matrix.outs = weight.size(0);
  matrix.ins = weight.size(1);
  matrix.pieces = PackedMatrix::pieces_for(matrix.outs, at::get_num_threads());
  const PackingLibrary& library = packing_library();
  int64_t most = 0;
  for (int64_t piece = 0; piece < matrix.pieces; piece++) {
    int64_t columns = matrix.first(piece + 1) - matrix.first(piece);
    most = std::max<int64_t>(most, library.bytes(PackedMatrix::RIGHT_SIDE, PackedMatrix::ROWS, columns, matrix.ins));
  }
  matrix.bytes = at::empty({(most + 63) / 64 * 64 * matrix.pieces}, weight.options().dtype(at::kByte));
  for (int64_t piece = 0; piece < matrix.pieces; piece++) {
    int64_t first = matrix.first(piece), columns = matrix.first(piece + 1) - first;
    library.pack(PackedMatrix::ROW_MAJOR, PackedMatrix::RIGHT_SIDE, PackedMatrix::TRANSPOSED, PackedMatrix::ROWS, columns,
                 matrix.ins, 1.0f, data<float>(weight) + first * matrix.ins, matrix.ins, matrix.packed(piece));
  }
  return matrix;
}

// Computes the product of x, [T, I], with a packed weight: [T, O].
static Tensor multiply(const Tensor& x_in, const PackedMatrix& weight) {
  Tensor x = x_in.contiguous();
  TORCH_CHECK(x.dim() == 2 && x.scalar_type() == at::kFloat && x.device().is_cpu(), "packed product: misshapen");
  TORCH_CHECK(x.size(1) == weight.ins, "packed product: rows of ", x.size(1), " by a weight of ", weight.ins);
  int64_t rows = x.size(0);
  // With AVX2, MKL computes the rows beyond a multiple of four in another way and adds in another order. Padding to a multiple of
  // four gives every row the same order.
  if (int64_t behind = rows % PackedMatrix::ROWS_TOGETHER; behind > 0) {
    Tensor filled = at::zeros({rows + PackedMatrix::ROWS_TOGETHER - behind, weight.ins}, x.options());
    std::memcpy(out<float>(filled), data<float>(x), rows * weight.ins * 4);
    return multiply(filled, weight).narrow(0, 0, rows);
  }
  Tensor y = at::empty({rows, weight.outs}, x.options());
  if (rows == 0) return y;
  int64_t parts = weight.parts(rows, at::get_num_threads());
  at::parallel_for(0, weight.pieces * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t share = begin; share < end; share++) weight.multiply(data<float>(x), out<float>(y), rows, share, parts);
  });
  return y;
}

extern "C" {
bool demask_packs() { return packing_library().packs(); }

int demask_pack(Tensor* weight, Tensor** to, int64_t* pieces) {
  return guarded([&] {
    PackedMatrix matrix = packed(*weight);
    *pieces = matrix.pieces;
    give(to, std::move(matrix.bytes));
  });
}

int demask_packed_product(Tensor* x, Tensor* weight, int64_t ins, int64_t outs, int64_t pieces, Tensor** y) {
  return guarded([&] { give(y, multiply(*x, PackedMatrix{*weight, ins, outs, pieces})); });
}
}
