// Matrix products with packed weights.

#include "packed.h"

// Packs a weight, [O, I], as `products.h` says.
static PackedMatrix packed(const Tensor& weight_in, int64_t set) {
  Tensor weight = weight_in.contiguous();
  bool is_known = weight.scalar_type() == at::kBFloat16 || weight.scalar_type() == at::kFloat;
  TORCH_CHECK(weight.dim() == 2 && weight.device().is_cpu() && is_known, "pack: misshapen");
  PackedMatrix matrix = PackedMatrix::of(weight, weight.size(1), weight.size(0), set);
  TORCH_CHECK(matrix.products, "pack: instruction set ", set, " has no products in ", weight.dtype());
  int64_t outs = matrix.pieces() * Products::OUTS, ins = matrix.stride();
  int64_t strip = PackedMatrix::is_bf16(weight) ? 16 : 32, together = PackedMatrix::is_bf16(weight) ? 2 : 1;
  Tensor filled = at::constant_pad_nd(weight, {0, ins - matrix.ins, 0, outs - matrix.outs});
  matrix.packed = filled.view({outs / strip, strip, ins / together, together}).transpose(1, 2).contiguous().view({-1});
  return matrix;
}

// Computes the product of x, [T, I], with a packed weight: [T, O]. The dtype is that of the weight.
static Tensor multiply(const Tensor& x_in, const PackedMatrix& weight) {
  Tensor x = x_in.contiguous();
  TORCH_CHECK(weight.products, "packed product: this processor has no such products");
  TORCH_CHECK(weight.is_whole(), "packed product: a weight of another shape");
  TORCH_CHECK(x.dim() == 2 && x.scalar_type() == weight.packed.scalar_type() && x.device().is_cpu(),
              "packed product: misshapen");
  TORCH_CHECK(x.size(1) == weight.ins, "packed product: rows of ", x.size(1), " by a weight of ", weight.ins);
  int64_t rows = x.size(0), more_rows = weight.rows_read(rows) - rows, more_ins = weight.stride() - weight.ins;
  if (more_rows > 0 || more_ins > 0) x = at::constant_pad_nd(x, {0, more_ins, 0, more_rows});
  Tensor y = at::empty({rows, weight.outs}, x.options().dtype(at::kFloat));
  at::parallel_for(0, weight.shares(rows), 1, [&](int64_t begin, int64_t end) {
    weight.multiply(x.const_data_ptr(), out<float>(y), rows, begin, end);
  });
  return y.to(x.scalar_type());
}

extern "C" {
int demask_pack(Tensor* weight, int64_t set, Tensor** to) {
  return guarded([&] { give(to, packed(*weight, set).packed); });
}

int demask_packed_product(Tensor* x, Tensor* weight, int64_t ins, int64_t outs, int64_t set, Tensor** y) {
  return guarded([&] { give(y, multiply(*x, PackedMatrix::of(*weight, ins, outs, set))); });
}
}
