// Attention of some positions of several rows over the KV cache, one position or one tile at a time, so that different
// loops over threads can use it. f32 arithmetic on a CPU, without gradients.
//
// Legend: T computed positions, S slots, H query heads, K key and value heads, E head width, C places of a slot.
// The cache is f32, with keys [S, K, E, C] and values [S, K, C, E'], where C is a multiple of 32 and E' of 16.
#pragma once

#include "attention_tiles.h"
#include "columns.h"
#include "rows.h"

// Rotates x by the rotary tables into y.
CLONES static void turn_into(const float* R x, float* R y, const float* R cos, const float* R sin, int64_t half) {
  for (int64_t i = 0; i < half; i++) {
    y[i] = x[i] * cos[i] - x[half + i] * sin[i];
    y[half + i] = x[half + i] * cos[i] + x[i] * sin[i];
  }
}

// Computes the RMS norm, with the roundings of the composed operators.
static void norm_row(const float* row, float* to, const float* gain, int64_t n, double eps, bool rounds) {
  scaled_row(row, 1.0f / std::sqrt(sum_squares(row, n) / n + static_cast<float>(eps)), to, n);
  if (rounds) round_row(to, n);
  multiply_row(to, gain, n);
  if (rounds) round_row(to, n);
}

// A tile: some queries of one head of one chunk.
struct Task {
  int64_t slot, first, count, keys, soft_pad, head;
};

struct CachedAttention {
  const AttentionTiles* tiles;
  float *keys, *values;
  const float *cos, *sin;
  // Absent if queries and keys are not normalised.
  const float *q_gain = nullptr, *k_gain = nullptr;
  // Absent if these norms have no biases.
  const float *q_bias = nullptr, *k_bias = nullptr;
  // A table of `columns.h`.
  const int64_t* places;
  int64_t heads, kv_heads, width, capacity, wide, turn_stride;
  // The scale of scores, and its inverse.
  float scale, one;
  double eps;
  // Whether the projection is bf16, so that intermediate results are rounded as there.
  bool rounds = false;

  CachedAttention(const Tensor& keys_in, const Tensor& values_in, const Tensor& cos_in, const Tensor& sin_in,
                  const Tensor& places_in, int64_t heads, int64_t width, double scale, double eps, int64_t set)
      : tiles(attention_tiles(set)),
        keys(out<float>(keys_in)),
        values(out<float>(values_in)),
        cos(data<float>(cos_in)),
        sin(data<float>(sin_in)),
        places(data<int64_t>(places_in)),
        heads(heads),
        kv_heads(keys_in.size(1)),
        width(width),
        capacity(keys_in.size(3)),
        wide(values_in.size(3)),
        turn_stride(cos_in.size(1)),
        scale(static_cast<float>(scale)),
        one(static_cast<float>(1.0 / scale)),
        eps(eps) {
    TORCH_CHECK(tiles, "cached attention: this processor has no kernels of set ", set);
    TORCH_CHECK(keys_in.size(2) == width, "cached attention: misshapen");
    TORCH_CHECK(capacity % (2 * LANE) == 0 && wide % LANE == 0 && wide >= width,
                "cached attention: a misaligned cache");
  }

  // The width of the stacked projection.
  int64_t joined_width() const { return (heads + 2 * kv_heads) * width; }
  // The numbers of scratch that `place` and `attend` use.
  int64_t place_room() const { return (heads + 2 * kv_heads) * width; }
  int64_t attend_room() const { return tiles->queries * (width + capacity + wide); }

  // Normalises queries and keys with these f32 gains, [H E] and [K E].
  void normalise_with(const Tensor& q, const Tensor& k) {
    TORCH_CHECK(q.numel() == heads * width && k.numel() == kv_heads * width, "cached attention: misshapen gains");
    q_gain = data<float>(q);
    k_gain = data<float>(k);
  }

  // Adds these f32 biases, [H E] and [K E], to the normalised queries and keys. Not with `rounds`.
  void shift_with(const Tensor& q, const Tensor& k) {
    TORCH_CHECK(q.numel() == heads * width && k.numel() == kv_heads * width, "cached attention: misshapen biases");
    q_bias = data<float>(q);
    k_bias = data<float>(k);
  }

  // Normalises and rotates the projection `all` of computed position `row`. Writes its queries to `turned`, [T, H E],
  // and its keys and values to the cache.
  void place(int64_t row, const float* all, float* turned, float* room) const {
    const int64_t* stands = places + row * PLACE_COLUMNS;
    const float *c = cos + stands[PLACE_POSITION] * turn_stride, *s = sin + stands[PLACE_POSITION] * turn_stride;
    int64_t q_width = heads * width, k_width = kv_heads * width, half = width / 2;
    const float* straight = all;
    float* turned_k = room + q_width + k_width;
    if (q_gain) {
      norm_row(all, room, q_gain, q_width, eps, rounds);
      norm_row(all + q_width, room + q_width, k_gain, k_width, eps, rounds);
      if (q_bias) {
        add_row(room, q_bias, q_width);
        add_row(room + q_width, k_bias, k_width);
      }
      straight = room;
    }
    float* turned_q = turned + row * q_width;
    for (int64_t at = 0; at < q_width; at += width) turn_into(straight + at, turned_q + at, c, s, half);
    for (int64_t at = 0; at < k_width; at += width) turn_into(straight + q_width + at, turned_k + at, c, s, half);
    if (rounds) {
      round_row(turned_q, q_width);
      round_row(turned_k, k_width);
    }
    for (int64_t head = 0; head < kv_heads; head++) {
      int64_t kept = stands[PLACE_SLOT] * kv_heads + head;
      float* to = keys + kept * width * capacity + stands[PLACE_IN_SLOT];
      for (int64_t e = 0; e < width; e++) to[e * capacity] = turned_k[head * width + e];
      std::memcpy(values + (kept * capacity + stands[PLACE_IN_SLOT]) * wide, all + q_width + k_width + head * width,
                  width * 4);
    }
  }

  // Divides the queries of each chunk and head evenly into tiles.
  std::vector<Task> tasks_of(const Tensor& chunks) const {
    std::vector<Task> tasks;
    const int64_t* chunk = data<int64_t>(chunks);
    for (int64_t row = 0; row < chunks.size(0); row++, chunk += CHUNK_COLUMNS) {
      int64_t queries = chunk[CHUNK_COUNT], parts = (queries + tiles->queries - 1) / tiles->queries;
      for (int64_t head = 0; head < heads; head++)
        for (int64_t part = 0; part < parts; part++) {
          int64_t from = queries * part / parts, to = queries * (part + 1) / parts;
          tasks.push_back({chunk[CHUNK_SLOT], chunk[CHUNK_FIRST] + from, to - from, chunk[CHUNK_KEYS],
                           chunk[CHUNK_SOFT_PAD], head});
        }
    }
    return tasks;
  }

  // Computes a tile from the rotated queries, [T, H E]. `take` is given each result, [E], with its position and head.
  // In a chunk with soft padding, pairs without soft padding get +1 on their scaled score.
  template <typename Take> void attend(const Task& task, const float* turned, float* room, const Take& take) const {
    float *queries = room, *scores = queries + tiles->queries * width, *mixed = scores + tiles->queries * capacity;
    for (int64_t i = 0; i < task.count; i++)
      std::memcpy(queries + i * width, turned + ((task.first + i) * heads + task.head) * width, width * 4);
    int64_t kept = task.slot * kv_heads + task.head / (heads / kv_heads);
    tiles->scores(queries, keys + kept * width * capacity, scores, task.count, width, capacity, task.keys);
    for (int64_t i = 0; i < task.count; i++) {
      float* row = scores + i * capacity;
      if (task.soft_pad > 0 && places[(task.first + i) * PLACE_COLUMNS + PLACE_IN_SLOT] >= task.soft_pad)
        for (int64_t l = task.soft_pad; l < task.keys; l++) row[l] += one;
      float sum = exp_row(row, scale, highest(row, task.keys), task.keys);
      scale_row(row, 1.0f / sum, task.keys);
    }
    tiles->mix(scores, values + kept * capacity * wide, mixed, task.count, wide, capacity, task.keys);
    for (int64_t i = 0; i < task.count; i++) take(mixed + i * wide, task.first + i, task.head);
  }
};
