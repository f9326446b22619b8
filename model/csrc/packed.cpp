// Matrix products with packed weights, which are stored once in the memory layout of the matrix library. f32
// on a CPU.
//
// The library is MKL, which libtorch contains and whose packed interface it exports. A libtorch without MKL
// (on another processor family) lacks these symbols, so they are looked up at run time.

#include <dlfcn.h>

#include "rows.h"

// Integers are passed in registers and stack slots of eight bytes, so these signatures fit MKL with 32-bit
// and 64-bit integers.
using PackedBytes = size_t (*)(int identifier, int64_t m, int64_t n, int64_t k);
using Pack = void (*)(int layout, int identifier, int transposed, int64_t m, int64_t n, int64_t k, float alpha,
                      const float* from, int64_t stride, float* packed);
using Compute = void (*)(int layout, int a_is, int b_is, int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride,
                         const float* b, int64_t b_stride, float beta, float* c, int64_t c_stride);

static constexpr int ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112, PACKED = 151, RIGHT_SIDE = 162;
// The number of rows that a weight is packed for. The layout does not depend on it
// (`tests/model/network/packed_weights.rs`).
static constexpr int64_t ROWS = 32;

namespace {
struct Library {
  PackedBytes bytes = reinterpret_cast<PackedBytes>(dlsym(RTLD_DEFAULT, "cblas_sgemm_pack_get_size"));
  Pack pack = reinterpret_cast<Pack>(dlsym(RTLD_DEFAULT, "cblas_sgemm_pack"));
  Compute compute = reinterpret_cast<Compute>(dlsym(RTLD_DEFAULT, "cblas_sgemm_compute"));

  bool packs() const { return bytes && pack && compute; }
};
}  // namespace

static const Library& library() {
  static const Library found;
  return found;
}

// Packs a weight, [O, I], into bytes that only `multiply` reads.
static Tensor packed(const Tensor& weight_in) {
  Tensor weight = weight_in.contiguous();
  TORCH_CHECK(weight.dim() == 2 && weight.scalar_type() == at::kFloat && weight.device().is_cpu(), "pack: misshapen");
  int64_t outs = weight.size(0), ins = weight.size(1), bytes = library().bytes(RIGHT_SIDE, ROWS, outs, ins);
  Tensor packed = at::empty({bytes}, weight.options().dtype(at::kByte));
  library().pack(ROW_MAJOR, RIGHT_SIDE, TRANSPOSED, ROWS, outs, ins, 1.0f, data<float>(weight), ins, out<float>(packed));
  return packed;
}

// Computes the product of x, [T, I], with a packed weight: [T, O].
static Tensor multiply(const Tensor& x_in, const Tensor& packed, int64_t ins, int64_t outs) {
  Tensor x = x_in.contiguous();
  TORCH_CHECK(x.dim() == 2 && x.scalar_type() == at::kFloat && x.device().is_cpu(), "packed product: misshapen");
  TORCH_CHECK(x.size(1) == ins, "packed product: rows of ", x.size(1), " by a weight of ", ins);
  int64_t rows = x.size(0);
  // With AVX2, MKL computes the rows beyond a multiple of four in another way and adds in another order.
  // Padding to a multiple of four gives every row the same order.
  if (int64_t behind = rows % 4; behind > 0) {
    Tensor filled = at::zeros({rows + 4 - behind, ins}, x.options());
    std::memcpy(out<float>(filled), data<float>(x), rows * ins * 4);
    return multiply(filled, packed, ins, outs).narrow(0, 0, rows);
  }
  Tensor y = at::empty({rows, outs}, x.options());
  if (rows > 0)
    library().compute(ROW_MAJOR, AS_IT_IS, PACKED, rows, outs, ins, data<float>(x), ins,
                      static_cast<const float*>(packed.const_data_ptr()), outs, 0.0f, out<float>(y), outs);
  return y;
}

extern "C" {
bool demask_packs() { return library().packs(); }

int demask_pack(Tensor* weight, Tensor** to) {
  return guarded([&] { give(to, packed(*weight)); });
}

int demask_packed_product(Tensor* x, Tensor* weight, int64_t ins, int64_t outs, Tensor** y) {
  return guarded([&] { give(y, multiply(*x, *weight, ins, outs)); });
}
}
