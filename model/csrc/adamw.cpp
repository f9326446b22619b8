// A step of AdamW over all parameters in one pass over memory. f32 on a CPU.
//
// Legend: g gradient, m and v its first and second moment, p parameters.

#include "rows.h"

// The number of elements that a thread takes at a time.
static constexpr int64_t PIECE = 1 << 15;

struct AdamwRates {
  // The factor of the gradient (clipping); the factor of a parameter (weight decay); the learning rate.
  float clip, decay, rate;
  // 1 - beta of m and v; 1 / (1 - beta^step) for m, and its square root for v; epsilon.
  float toward1, toward2, correct1, correct2, eps;
};

CLONES static void adamw_row(float* R g, float* R m, float* R v, float* R p, AdamwRates by, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float slope = g[i] * by.clip;
    float first = m[i] + by.toward1 * (slope - m[i]);
    float second = v[i] + by.toward2 * (slope * slope - v[i]);
    m[i] = first;
    v[i] = second;
    p[i] = p[i] * by.decay - first / (std::sqrt(second) * by.correct2 + by.eps) * by.correct1 * by.rate;
    g[i] = 0;
  }
}

extern "C" {
// `numbers` are the fields of `AdamwRates` in order. The gradient is zero afterwards.
int demask_adamw(Tensor* g, Tensor* m, Tensor* v, Tensor* p, const float* numbers) {
  return guarded([&] {
    int64_t n = g->numel();
    for (Tensor* t : {g, m, v, p})
      TORCH_CHECK(t->numel() == n && t->is_contiguous() && t->scalar_type() == at::kFloat && t->device().is_cpu(),
                  "AdamW: misshapen state");
    AdamwRates by{numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7]};
    float *gs = out<float>(*g), *ms = out<float>(*m), *vs = out<float>(*v), *ps = out<float>(*p);
    at::parallel_for(0, n, PIECE, [&](int64_t begin, int64_t end) {
      adamw_row(gs + begin, ms + begin, vs + begin, ps + begin, by, end - begin);
    });
    // Caches that are derived from the weights, such as packed weights, notice the change by the version.
    for (Tensor* t : {g, m, v, p}) t->unsafeGetTensorImpl()->bump_version();
  });
}
}
