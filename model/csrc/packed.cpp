// Matrix products with packed weights.

#include "packed.h"

// Packs an f32 weight, [O, I], in pieces for the threads of the caller.
static void pack_f32(const Tensor& weight, PackedMatrix& matrix) {
  const PackingLibrary& library = packing_library();
  int64_t most = 0;
  for (int64_t piece = 0; piece < matrix.pieces; piece++) {
    int64_t columns = matrix.first(piece + 1) - matrix.first(piece);
    most = std::max<int64_t>(most, library.bytes(PackedMatrix::RIGHT_SIDE, PackedMatrix::ROWS, columns, matrix.ins));
  }
  matrix.packed = at::empty({(most + 63) / 64 * 16 * matrix.pieces}, weight.options());
  for (int64_t piece = 0; piece < matrix.pieces; piece++) {
    int64_t first = matrix.first(piece), columns = matrix.first(piece + 1) - first;
    library.pack(PackedMatrix::ROW_MAJOR, PackedMatrix::RIGHT_SIDE, PackedMatrix::TRANSPOSED, PackedMatrix::ROWS,
                 columns, matrix.ins, 1.0f, data<float>(weight) + first * matrix.ins, matrix.ins,
                 matrix.piece_of<float>(piece));
  }
}

// Packs a bf16 weight, [O, I], as `bf16_products.h` says.
static void pack_bf16(const Tensor& weight, PackedMatrix& matrix) {
  int64_t outs = matrix.pieces * Bf16Products::OUTS, ins = matrix.stride();
  Tensor filled = at::constant_pad_nd(weight, {0, ins - matrix.ins, 0, outs - matrix.outs});
  matrix.packed = filled.view({outs / 16, 16, ins / 2, 2}).transpose(1, 2).contiguous().view({-1});
}

// Packs a weight, [O, I]. A bf16 weight needs an instruction set with products for it.
static PackedMatrix packed(const Tensor& weight_in, int64_t set) {
  Tensor weight = weight_in.contiguous();
  bool is_bf16 = weight.scalar_type() == at::kBFloat16;
  TORCH_CHECK(weight.dim() == 2 && weight.device().is_cpu() && (is_bf16 || weight.scalar_type() == at::kFloat),
              "pack: misshapen");
  PackedMatrix matrix;
  matrix.outs = weight.size(0);
  matrix.ins = weight.size(1);
  if (is_bf16) {
    matrix.products = bf16_products(set);
    TORCH_CHECK(matrix.products, "pack: instruction set ", set, " has no bf16 products");
  }
  matrix.pieces = matrix.pieces_for(at::get_num_threads());
  if (is_bf16) pack_bf16(weight, matrix);
  else pack_f32(weight, matrix);
  return matrix;
}

// Computes the product of x, [T, I], with a packed weight: [T, O]. The dtype is that of the weight.
static Tensor multiply(const Tensor& x_in, const PackedMatrix& weight) {
  Tensor x = x_in.contiguous();
  TORCH_CHECK(x.dim() == 2 && x.scalar_type() == weight.packed.scalar_type() && x.device().is_cpu(),
              "packed product: misshapen");
  TORCH_CHECK(x.size(1) == weight.ins, "packed product: rows of ", x.size(1), " by a weight of ", weight.ins);
  int64_t rows = x.size(0), more_rows = weight.rows_read(rows) - rows, more_ins = weight.stride() - weight.ins;
  // With AVX2, MKL computes the rows beyond a multiple of four in another way and adds in another order. Padding to a
  // multiple of four gives every row the same order. The bf16 products read a multiple of sixteen rows.
  if (more_rows > 0 || more_ins > 0) x = at::constant_pad_nd(x, {0, more_ins, 0, more_rows});
  int64_t computed = weight.products ? rows : x.size(0);
  Tensor y = at::empty({computed, weight.outs}, x.options().dtype(at::kFloat));
  if (rows == 0) return y.to(x.scalar_type());
  int64_t parts = weight.parts(computed, at::get_num_threads());
  at::parallel_for(0, weight.pieces * parts, 1, [&](int64_t begin, int64_t end) {
    weight.multiply(x.const_data_ptr(), out<float>(y), computed, begin, end, parts);
  });
  return y.narrow(0, 0, rows).to(x.scalar_type());
}

extern "C" {
bool demask_packs() { return packing_library().packs(); }

int demask_pack(Tensor* weight, int64_t set, Tensor** to, int64_t* pieces) {
  return guarded([&] {
    PackedMatrix matrix = packed(*weight, set);
    *pieces = matrix.pieces;
    give(to, std::move(matrix.packed));
  });
}

int demask_packed_product(Tensor* x, Tensor* weight, int64_t ins, int64_t outs, int64_t pieces, int64_t set,
                          Tensor** y) {
  return guarded([&] { give(y, multiply(*x, PackedMatrix::of(*weight, ins, outs, pieces, set))); });
}
}
