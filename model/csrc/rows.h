// Helpers for kernels that load a row of a tensor as f32, compute on it and store it in the tensor's dtype;
// and the conversion of exceptions to error messages. CPU only, f32 and bf16. Every sum has a fixed order
// that does not depend on the number of threads (L8).
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

using at::Tensor;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define R __restrict

// Conversions between f32 and bf16, and operations on f32 rows.

static inline uint16_t narrowed(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return value != value ? 0x7fc0 : static_cast<uint16_t>(rounded);
}

static inline float widened(uint16_t value) {
  uint32_t bits = static_cast<uint32_t>(value) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}

CLONES static void widen(const uint16_t* R from, float* R to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = widened(from[i]);
}
CLONES static void narrow(const float* R from, uint16_t* R to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = narrowed(from[i]);
}
CLONES static void round_row(float* R row, int64_t n) {
  for (int64_t i = 0; i < n; i++) row[i] = widened(narrowed(row[i]));
}
CLONES static void sum_rows(const float* R a, const float* R b, float* R to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = a[i] + b[i];
}
CLONES static void add_row(float* R to, const float* R by, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] += by[i];
}
CLONES static float dot(const float* R a, const float* R b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}
CLONES static float sum_squares(const float* R a, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * a[i];
  return sum;
}
// Sixteen floats at any address.
typedef float Vec __attribute__((vector_size(64), aligned(4), may_alias));
static constexpr int64_t LANE = 16;

// The highest number of a row. The vectors are explicit, because NaN keeps the compiler from reordering the
// comparisons.
CLONES static float highest(const float* R a, int64_t n) {
  float top = a[0];
  int64_t i = 0;
  if (n >= LANE) {
    Vec tops = *reinterpret_cast<const Vec*>(a);
    for (i = LANE; i + LANE <= n; i += LANE) {
      const Vec next = *reinterpret_cast<const Vec*>(a + i);
      tops = next > tops ? next : tops;
    }
    for (int64_t j = 0; j < LANE; j++) top = tops[j] > top ? tops[j] : top;
  }
  for (; i < n; i++) top = a[i] > top ? a[i] : top;
  return top;
}
CLONES static void scale_row(float* R row, float by, int64_t n) {
  for (int64_t i = 0; i < n; i++) row[i] *= by;
}
CLONES static void scaled_row(const float* R a, float by, float* R to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = a[i] * by;
}
CLONES static void multiply_row(float* R row, const float* R by, int64_t n) {
  for (int64_t i = 0; i < n; i++) row[i] *= by[i];
}

// exp with an error of about one unit in the last place. It has no branches, so that it vectorises, and keeps NaN.
static inline float fast_exp(float x) {
  float clamped = x < -87.0f ? -87.0f : x;
  clamped = clamped > 88.0f ? 88.0f : clamped;
  float n = std::floor(clamped * 1.44269504f + 0.5f);
  float r = clamped - n * 0.693359375f - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  float mantissa = p * r * r + r + 1.0f;
  uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return mantissa * power;
}

template <typename T> static const T* data(const Tensor& t) { return static_cast<const T*>(t.const_data_ptr()); }
template <typename T> static T* out(const Tensor& t) { return static_cast<T*>(t.mutable_data_ptr()); }

// Copies a row to f32 (`load`), or from f32 to the dtype of the tensor (`store`). `at` is the index of the
// row's first number.
static void load(const Tensor& t, int64_t at, float* to, int64_t n) {
  if (t.scalar_type() == at::kFloat) std::memcpy(to, data<float>(t) + at, n * 4);
  else widen(data<uint16_t>(t) + at, to, n);
}
static void store(const float* from, const Tensor& t, int64_t at, int64_t n) {
  if (t.scalar_type() != at::kFloat) narrow(from, out<uint16_t>(t) + at, n);
  else if (float* to = out<float>(t) + at; to != from) std::memcpy(to, from, n * 4);
}
// Return an f32 row to read, to change in place, or to overwrite (`fresh`). It is the tensor's own memory if
// that is f32, and otherwise the buffer `room`, from which `store` writes it back.
static const float* read(const Tensor& t, int64_t at, float* room, int64_t n) {
  if (t.scalar_type() == at::kFloat) return data<float>(t) + at;
  load(t, at, room, n);
  return room;
}
static float* change(const Tensor& t, int64_t at, float* room, int64_t n) {
  if (t.scalar_type() == at::kFloat) return out<float>(t) + at;
  load(t, at, room, n);
  return room;
}
static float* fresh(const Tensor& t, int64_t at, float* room) {
  return t.scalar_type() == at::kFloat ? out<float>(t) + at : room;
}

// Returns memory for at least n floats of this thread, with any contents. The next call on the thread reuses it.
// Kernels take their rows from here, because threads that allocate at the same time wait for each other.
static float* scratch(int64_t n) {
  static thread_local std::vector<float> room;
  if (static_cast<int64_t>(room.size()) < n) room.resize(n);
  return room.data();
}

template <typename F> static void for_rows(int64_t rows, int64_t width, const F& f) {
  int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1));
  at::parallel_for(0, rows, grain, f);
}

CLONES static float exp_row(float* R a, float scale, float top, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) {
    a[i] = fast_exp((a[i] - top) * scale);
    sum += a[i];
  }
  return sum;
}
// exp(-a) in a loop of its own. Merged with a loop that divides by it, the compiler would divide twice, for
// clamped values and for others.
CLONES static void exp_minus(const float* R a, float* R y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = fast_exp(-a[i]);
}
// silu(gate) * up, where `y` holds exp(-gate) on entry.
CLONES static void gate_row(const float* R gate, const float* R up, float* R y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = gate[i] / (1.0f + y[i]) * up[i];
}
CLONES static float sum_exp(const float* R a, float top, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) sum += fast_exp(a[i] - top);
  return sum;
}

inline thread_local std::string last_error;

template <typename F> static int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  } catch (...) {
    last_error = "an unknown fault";
    return 1;
  }
}

static std::optional<Tensor> perhaps(const Tensor* t) { return t ? std::optional<Tensor>(*t) : std::nullopt; }
static void give(Tensor** to, Tensor from) { *to = new Tensor(std::move(from)); }
