// The CPU kernels of sampling: attention of some positions of several rows over the KV cache, and the draw of a token
// from each row of logits. No gradients. f32 and bf16.
//
// Legend: T computed positions, S slots, H query heads, K key and value heads, E head width, C places of a slot, V
// vocabulary. The cache is f32, with keys [S, K, E, C] and values [S, K, C, E'], where C is a multiple of 32 and E'
// of 16.

#include "cached_attention.h"

// The least number of queries for which another thread is worth its cost.
static constexpr int64_t QUERIES_OF_A_THREAD = 32;

// Computes attention from the stacked projection `joined`, [T or more, (H + 2K) E], and writes keys and values to the
// cache. Returns [T or more, H E], with zeros for the rows beyond T. If there are gains, q and k are normalised first.
// `chunks` and `places` are tables of `columns.h`. In a chunk with soft padding, pairs without soft padding get +1 on
// their scaled score.
//
// Full passes over rows of the cache use this kernel too: with AVX-512, libtorch's matrix products and attention were
// slower at every shape measured (`tests/benches/LOG.md`).
static Tensor attend(const Tensor& joined_in, const Tensor& cos, const Tensor& sin, const Tensor& chunks,
                     const Tensor& places, const Tensor& keys, const Tensor& values,
                     const std::optional<Tensor>& q_gain, const std::optional<Tensor>& k_gain, double eps,
                     int64_t heads, int64_t width, double scale, int64_t set) {
  Tensor joined = joined_in.contiguous();
  int64_t rows = places.size(0);
  CachedAttention attention(keys, values, cos, sin, places, heads, width, scale, eps, set);
  int64_t total = attention.joined_width();
  TORCH_CHECK(joined.size(1) == total && joined.size(0) >= rows, "cached attention: misshapen");
  attention.rounds = joined.scalar_type() != at::kFloat;
  Tensor gains[2];
  if (q_gain) {
    gains[0] = q_gain->to(at::kFloat).contiguous();
    gains[1] = k_gain->to(at::kFloat).contiguous();
    attention.normalise_with(gains[0], gains[1]);
  }
  Tensor q = at::empty({rows, heads, width}, joined.options().dtype(at::kFloat));
  for_rows(rows, total, [&](int64_t begin, int64_t end) {
    float* room = scratch(total + attention.place_room());
    for (int64_t row = begin; row < end; row++)
      attention.place(row, read(joined, row * total, room, total), out<float>(q), room + total);
  });
  Tensor y = at::empty({joined.size(0), heads * width}, joined.options());
  if (joined.size(0) > rows) y.narrow(0, rows, joined.size(0) - rows).zero_();
  std::vector<Task> tasks = attention.tasks_of(chunks);
  int64_t grain = QUERIES_OF_A_THREAD * tasks.size() / std::max<int64_t>(rows * heads, 1);
  at::parallel_for(0, tasks.size(), std::max<int64_t>(grain, 1), [&](int64_t begin, int64_t end) {
    float* room = scratch(attention.attend_room());
    for (int64_t number = begin; number < end; number++)
      attention.attend(tasks[number], data<float>(q), room, [&](const float* mixed, int64_t query, int64_t head) {
        store(mixed, y, (query * heads + head) * width, width);
      });
  });
  return y;
}

// The draw from each row of logits, with the measures of `columns.h`. Columns from `end` on, and the column `shut` if
// it is not negative, count in the softmax but are never drawn.
//
// A row is read once, in pieces that fit the L1 cache. Each piece gives its highest column, its two highest columns
// that may be drawn, and sums of exponentials relative to its highest column. Joining two pieces rescales the sums to
// the higher of the two.

static constexpr int64_t PIECE = 1024;

// The summary of some columns. The sums leave the highest column out: next to its 1, small terms would lose their
// digits.
struct Swept {
  // The highest logit, and its column.
  float top = -INFINITY;
  int64_t surest = 0;
  // The sums of e^(a - top) and of e^(a - top) (a - top).
  float others = 0, weighed = 0;
  // The highest and second highest logit that may be drawn, and the column of the highest.
  float best = -INFINITY, next = -INFINITY;
  int64_t first = 0;

  void join(const Swept& behind) {
    if (behind.best > best) {
      next = best > behind.next ? best : behind.next;
      best = behind.best;
      first = behind.first;
    } else {
      next = behind.best > next ? behind.best : next;
    }
    Swept low = behind;
    if (behind.top > top) {
      std::swap(low.others, others);
      std::swap(low.weighed, weighed);
      std::swap(low.surest, surest);
      std::swap(low.top, top);
    }
    float below = std::max(low.top - top, -80.0f), share = std::exp(below);
    weighed += share * (low.weighed + below * (1.0f + low.others));
    others += share * (1.0f + low.others);
  }
};

CLONES static void sum_below(const float* R a, float top, int64_t n, float* R others, float* R weighed) {
  float sum = 0, by_distance = 0;
  for (int64_t i = 0; i < n; i++) {
    float below = a[i] - top;
    below = below < -80.0f ? -80.0f : below;
    float e = fast_exp(below);
    sum += e;
    by_distance += e * below;
  }
  *others = sum;
  *weighed = by_distance;
}

static int64_t first_of(const float* a, float value, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (a[i] == value) return i;
  return 0;
}

// Summarises n columns, of which the first `open` except `shut` may be drawn. It overwrites some of `a`.
static Swept sweep(float* a, int64_t n, int64_t open, int64_t shut) {
  Swept swept;
  swept.top = highest(a, n);
  swept.surest = first_of(a, swept.top, n);
  a[swept.surest] = -INFINITY;
  sum_below(a, swept.top, n, &swept.others, &swept.weighed);
  bool bars = shut >= 0 && shut < open;
  if (bars) a[shut] = -INFINITY;
  if (swept.surest < open && !(bars && swept.surest == shut)) {
    swept.best = swept.top;
    swept.first = swept.surest;
    swept.next = highest(a, open);
  } else if (open > 0) {
    swept.best = highest(a, open);
    swept.first = first_of(a, swept.best, open);
    a[swept.first] = -INFINITY;
    swept.next = highest(a, open);
  }
  return swept;
}

// Returns the first column where the cumulative sum of exp((a - top) / temperature), without the shut column, exceeds
// the `uniform` share of the total. It overwrites `a`.
static int64_t passed(float* R a, float top, float temperature, float uniform, int64_t shut, int64_t n) {
  exp_row(a, 1.0f / temperature, top, n);
  if (shut >= 0 && shut < n) a[shut] = 0;
  double whole = 0;
  for (int64_t i = 0; i < n; i++) whole += a[i];
  double left = whole * uniform;
  int64_t last = 0;
  for (int64_t i = 0; i < n; i++) {
    if (a[i] > 0) last = i;
    left -= a[i];
    if (left < 0) return i;
  }
  return last;
}

static void draw(const Tensor& logits_in, const Tensor& temperatures, const Tensor& uniforms, int64_t end, int64_t shut,
                 const Tensor& measures) {
  Tensor logits = logits_in.contiguous();
  int64_t rows = logits.size(0), columns = logits.size(1), n = std::min(end, columns);
  TORCH_CHECK(n > 0 && measures.numel() == rows * MEASURE_COLUMNS, "draw: misshapen");
  for_rows(rows, columns, [&](int64_t begin, int64_t stop) {
    float piece[PIECE];
    float* warm = scratch(n);
    for (int64_t row = begin; row < stop; row++) {
      Swept swept;
      for (int64_t at = 0; at < columns; at += PIECE) {
        int64_t count = std::min(PIECE, columns - at);
        load(logits, row * columns + at, piece, count);
        Swept next = sweep(piece, count, std::clamp<int64_t>(n - at, 0, count), shut - at);
        next.surest += at;
        next.first += at;
        if (at == 0) swept = next;
        else swept.join(next);
      }
      // A NaN makes the sum NaN, and an infinite highest logit leaves no probabilities. The measures then have a NaN,
      // which the caller refuses.
      float sum = 1.0f + swept.others, temperature = data<float>(temperatures)[row];
      int64_t token = swept.first;
      float drawn = swept.best;
      if (temperature > 0) {
        load(logits, row * columns, warm, n);
        token = passed(warm, swept.best, temperature, data<float>(uniforms)[row], shut, n);
        load(logits, row * columns + token, &drawn, 1);
      }
      float chance = std::exp(drawn - swept.top) / sum, likeliest = std::exp(swept.best - swept.top) / sum;
      float rest = swept.others / sum;
      float* to = out<float>(measures) + row * MEASURE_COLUMNS;
      to[MEASURE_PROBABILITY] = sum == sum && std::isfinite(swept.top) ? chance : NAN;
      to[MEASURE_BEST] = likeliest;
      to[MEASURE_NEXT] = std::exp(swept.next - swept.top) / sum;
      to[MEASURE_ENTROPY] = std::log1p(swept.others) - swept.weighed / sum;
      to[MEASURE_REST] = token == swept.surest ? rest : 1.0f - chance;
      to[MEASURE_BEST_REST] = swept.first == swept.surest ? rest : 1.0f - likeliest;
      to[MEASURE_TOKEN] = static_cast<float>(token);
    }
  });
}

extern "C" {
int demask_cached_attend(Tensor* joined, Tensor* cos, Tensor* sin, Tensor* chunks, Tensor* places, Tensor* keys,
                         Tensor* values, Tensor* q_gain, Tensor* k_gain, double eps, int64_t heads, int64_t width,
                         double scale, int64_t set, Tensor** y) {
  return guarded([&] {
    give(y, attend(*joined, *cos, *sin, *chunks, *places, *keys, *values, perhaps(q_gain), perhaps(k_gain), eps, heads,
                   width, scale, set));
  });
}

int demask_draw(Tensor* logits, Tensor* temperatures, Tensor* uniforms, int64_t end, int64_t shut,
                Tensor* measures) {
  return guarded([&] { draw(*logits, *temperatures, *uniforms, end, shut, *measures); });
}
}
