// The CPU kernels of sampling: attention of some positions of several rows over the KV cache, and the draw of
// a token from each row of logits. No gradients. f32 and bf16.
//
// Legend: T computed positions, S slots, H query heads, K key and value heads, E head width, C places of a
// slot, V vocabulary. The cache is f32, with keys [S, K, E, C] and values [S, K, C, E'], where C is a
// multiple of 32 and E' of 16.

#include "attention_tiles.h"
#include "columns.h"
#include "rows.h"

// The least number of queries for which another thread is worth its cost.
static constexpr int64_t QUERIES_OF_A_THREAD = 32;

// Rotates x by the rotary tables into y.
CLONES static void turn_into(const float* R x, float* R y, const float* R cos, const float* R sin, int64_t half) {
  for (int64_t i = 0; i < half; i++) {
    y[i] = x[i] * cos[i] - x[half + i] * sin[i];
    y[half + i] = x[half + i] * cos[i] + x[i] * sin[i];
  }
}

// A tile: some queries of one head of one chunk.
struct Task {
  int64_t slot, first, count, keys, soft_pad, head;
};

// Divides the queries of each chunk and head evenly into tasks of at most `most` queries.
static std::vector<Task> tasks_of(const Tensor& chunks, int64_t heads, int64_t most) {
  std::vector<Task> tasks;
  const int64_t* chunk = data<int64_t>(chunks);
  for (int64_t row = 0; row < chunks.size(0); row++, chunk += CHUNK_COLUMNS) {
    int64_t queries = chunk[CHUNK_COUNT], parts = (queries + most - 1) / most;
    for (int64_t head = 0; head < heads; head++)
      for (int64_t part = 0; part < parts; part++) {
        int64_t from = queries * part / parts, to = queries * (part + 1) / parts;
        tasks.push_back({chunk[CHUNK_SLOT], chunk[CHUNK_FIRST] + from, to - from, chunk[CHUNK_KEYS],
                         chunk[CHUNK_SOFT_PAD], head});
      }
  }
  return tasks;
}

// Computes the RMS norm, with the roundings of the composed operators.
static void norm_row(const float* row, float* to, const float* gain, int64_t n, double eps, bool rounds) {
  scaled_row(row, 1.0f / std::sqrt(sum_squares(row, n) / n + static_cast<float>(eps)), to, n);
  if (rounds) round_row(to, n);
  multiply_row(to, gain, n);
  if (rounds) round_row(to, n);
}

// Computes attention from the stacked projection `joined`, [T or more, (H + 2K) E], and writes keys and
// values to the cache. Returns [T or more, H E], with zeros for the rows beyond T. If there are gains, q and
// k are normalised first. `chunks` and `places` are tables of `columns.h`. In a chunk with soft padding,
// pairs without soft padding get +1 on their scaled score.
//
// Full passes over rows of the cache use this kernel too: with AVX-512, libtorch's matrix products and
// attention were slower at every shape measured (`tests/benches/LOG.md`).
static Tensor attend(const Tensor& joined_in, const Tensor& cos, const Tensor& sin, const Tensor& chunks,
                     const Tensor& places, const Tensor& keys, const Tensor& values,
                     const std::optional<Tensor>& q_gain, const std::optional<Tensor>& k_gain, double eps,
                     int64_t heads, int64_t width, double scale, int64_t set) {
  const AttentionTiles* tiles = attention_tiles(set);
  TORCH_CHECK(tiles, "cached attention: this processor has no kernels of set ", set);
  Tensor joined = joined_in.contiguous();
  int64_t rows = places.size(0), kv_heads = keys.size(1), capacity = keys.size(3), wide = values.size(3);
  int64_t total = (heads + 2 * kv_heads) * width, half = width / 2, stride = cos.size(1);
  TORCH_CHECK(joined.size(1) == total && joined.size(0) >= rows && keys.size(2) == width, "cached attention: misshapen");
  TORCH_CHECK(capacity % (2 * LANE) == 0 && wide % LANE == 0 && wide >= width, "cached attention: a misaligned cache");
  bool rounds = joined.scalar_type() != at::kFloat, normed = q_gain.has_value();
  int64_t q_width = heads * width, k_width = kv_heads * width;
  Tensor gains[2];
  if (normed) {
    gains[0] = q_gain->to(at::kFloat).contiguous();
    gains[1] = k_gain->to(at::kFloat).contiguous();
    TORCH_CHECK(gains[0].numel() == q_width && gains[1].numel() == k_width, "cached attention: misshapen gains");
  }
  Tensor q = at::empty({rows, heads, width}, joined.options().dtype(at::kFloat));
  float *kept_keys = out<float>(keys), *kept_values = out<float>(values);
  for_rows(rows, total, [&](int64_t begin, int64_t end) {
    std::vector<float> a(total), normal(q_width + k_width), turned_k(k_width);
    for (int64_t row = begin; row < end; row++) {
      const int64_t* stands = data<int64_t>(places) + row * PLACE_COLUMNS;
      int64_t position = stands[PLACE_POSITION] * stride;
      const float *c = data<float>(cos) + position, *s = data<float>(sin) + position;
      const float *all = read(joined, row * total, a.data(), total), *straight = all;
      if (normed) {
        norm_row(all, normal.data(), data<float>(gains[0]), q_width, eps, rounds);
        norm_row(all + q_width, normal.data() + q_width, data<float>(gains[1]), k_width, eps, rounds);
        straight = normal.data();
      }
      float* turned_q = out<float>(q) + row * q_width;
      for (int64_t at = 0; at < q_width; at += width) turn_into(straight + at, turned_q + at, c, s, half);
      for (int64_t at = 0; at < k_width; at += width) turn_into(straight + q_width + at, turned_k.data() + at, c, s, half);
      if (rounds) {
        round_row(turned_q, q_width);
        round_row(turned_k.data(), k_width);
      }
      for (int64_t head = 0; head < kv_heads; head++) {
        int64_t kept = stands[PLACE_SLOT] * kv_heads + head;
        const float* key = turned_k.data() + head * width;
        float* to = kept_keys + kept * width * capacity + stands[PLACE_IN_SLOT];
        for (int64_t e = 0; e < width; e++) to[e * capacity] = key[e];
        std::memcpy(kept_values + (kept * capacity + stands[PLACE_IN_SLOT]) * wide,
                    all + q_width + k_width + head * width, width * 4);
      }
    }
  });
  Tensor y = at::empty({joined.size(0), heads * width}, joined.options());
  if (joined.size(0) > rows) y.narrow(0, rows, joined.size(0) - rows).zero_();
  std::vector<Task> tasks = tasks_of(chunks, heads, tiles->queries);
  int64_t group = heads / kv_heads, grain = QUERIES_OF_A_THREAD * tasks.size() / std::max<int64_t>(rows * heads, 1);
  const float one = static_cast<float>(1.0 / scale);
  at::parallel_for(0, tasks.size(), std::max<int64_t>(grain, 1), [&](int64_t begin, int64_t end) {
    std::vector<float> queries(tiles->queries * width), scores(tiles->queries * capacity), mixed(tiles->queries * wide);
    for (int64_t number = begin; number < end; number++) {
      const Task& task = tasks[number];
      for (int64_t i = 0; i < task.count; i++)
        std::memcpy(queries.data() + i * width, data<float>(q) + ((task.first + i) * heads + task.head) * width, width * 4);
      int64_t kept = task.slot * kv_heads + task.head / group;
      tiles->scores(queries.data(), kept_keys + kept * width * capacity, scores.data(), task.count, width, capacity, task.keys);
      for (int64_t i = 0; i < task.count; i++) {
        float* row = scores.data() + i * capacity;
        const int64_t* stands = data<int64_t>(places) + (task.first + i) * PLACE_COLUMNS;
        if (task.soft_pad > 0 && stands[PLACE_IN_SLOT] >= task.soft_pad)
          for (int64_t l = task.soft_pad; l < task.keys; l++) row[l] += one;
        float sum = exp_row(row, static_cast<float>(scale), highest(row, task.keys), task.keys);
        scale_row(row, 1.0f / sum, task.keys);
      }
      tiles->mix(scores.data(), kept_values + kept * capacity * wide, mixed.data(), task.count, wide, capacity, task.keys);
      for (int64_t i = 0; i < task.count; i++)
        store(mixed.data() + i * wide, y, ((task.first + i) * heads + task.head) * width, width);
    }
  });
  return y;
}

// The draw from each row of logits, with the measures of `columns.h`. Columns from `end` on, and the column
// `shut` if it is not negative, count in the softmax but are never drawn.
//
// A row is read once, in pieces that fit the L1 cache. Each piece gives its highest column, its two highest
// columns that may be drawn, and sums of exponentials relative to its highest column. Joining two pieces
// rescales the sums to the higher of the two.

static constexpr int64_t PIECE = 1024;

// The summary of some columns. The sums leave the highest column out: next to its 1, small terms would lose
// their digits.
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

// Returns the first column where the cumulative sum of exp((a - top) / temperature), without the shut column,
// exceeds the `uniform` share of the total. It overwrites `a`.
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
    std::vector<float> warm;
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
      // A NaN makes the sum NaN, and an infinite highest logit leaves no probabilities. The measures then
      // have a NaN, which the caller refuses.
      float sum = 1.0f + swept.others, temperature = data<float>(temperatures)[row];
      int64_t token = swept.first;
      float drawn = swept.best;
      if (temperature > 0) {
        warm.resize(n);
        load(logits, row * columns, warm.data(), n);
        token = passed(warm.data(), swept.best, temperature, data<float>(uniforms)[row], shut, n);
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
