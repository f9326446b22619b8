// The forward pass of a sampler through all transformer blocks in one call, on a CPU in f32 with packed weights.
//
// A cached step computes few positions: 32 positions of the shipped model take half a millisecond of arithmetic. Called
// operator by operator, it takes three times as long, for allocations, dispatch and the starts of parallel regions.
// Here one team of threads goes through all blocks, with a barrier between two stages, and all intermediate results lie
// in one allocation.
//
// Legend: T computed positions, N wanted positions, D width, F feed-forward width, H query heads, E head width.

#include "cached_attention.h"
#include "packed.h"

#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

struct SamplingBlock {
  Tensor attn_gain, ff_gain, q_gain, k_gain;
  PackedMatrix joined, attn_out, gate, down;
};

struct SamplingBlocks {
  Tensor table, last_gain;
  float embedding_scale;
  double eps;
  int64_t heads, width;
  std::vector<SamplingBlock> blocks;
};

CLONES static void add_row(float* R to, const float* R by, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] += by[i];
}

namespace {
// The threads that run a pass together.
struct Team {
  int64_t me, size;

  // Runs f(begin, end) on this thread's share of `count` items.
  template <typename F> void share(int64_t count, const F& f) const {
    int64_t begin = count * me / size, end = count * (me + 1) / size;
    if (begin < end) f(begin, end);
  }

  // Waits until every thread of the team is here.
  void meet() const {
#ifdef _OPENMP
#pragma omp barrier
#endif
  }
};

// One pass: what all threads read, and the memory that they fill.
struct SamplingPass {
  const SamplingBlocks& net;
  const int64_t *ids, *wanted;
  int64_t count, kept, width;
  void (*beat)();
  std::vector<CachedAttention> attention;
  std::vector<Task> tasks;
  // The residual stream and what is to be added to it, [T, D]; normalised, [T, D]; rotated queries and mixed values,
  // [T, H E]; and the widest intermediate result, [T, ..]. The rows are filled up to a multiple of four.
  float *x, *delta, *normed, *turned, *mixed, *wide, *gated_rows, *y;

  void product(const Team& team, const PackedMatrix& weight, const float* from, float* to, int64_t rows) const {
    rows = (rows + PackedMatrix::ROWS_TOGETHER - 1) / PackedMatrix::ROWS_TOGETHER * PackedMatrix::ROWS_TOGETHER;
    int64_t parts = weight.parts(rows, team.size);
    team.share(weight.pieces * parts, [&](int64_t begin, int64_t end) {
      for (int64_t share = begin; share < end; share++) weight.multiply(from, to, rows, share, parts);
    });
    team.meet();
  }

  // Adds `delta` to the stream, if asked to, and normalises it into `to`.
  void sum_norm(const Team& team, bool adds, const Tensor& gain, float* to, int64_t rows) const {
    team.share(rows, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        float* stream = x + row * width;
        if (adds) add_row(stream, delta + row * width, width);
        norm_row(stream, to + row * width, data<float>(gain), width, net.eps, false);
      }
    });
    team.meet();
  }

  void run(const Team& team) const {
    // The first norm shares the rows in the same way, so no barrier is needed between the two.
    team.share(count, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++)
        scaled_row(data<float>(net.table) + ids[row] * width, net.embedding_scale, x + row * width, width);
    });
    int64_t rows = count;
    for (size_t number = 0; number < net.blocks.size(); number++) {
      const SamplingBlock& block = net.blocks[number];
      if (team.me == 0) beat();
      sum_norm(team, number > 0, block.attn_gain, normed, rows);
      product(team, block.joined, normed, wide, rows);
      attend(team, attention[number], block.joined.outs);
      if (number + 1 == net.blocks.size()) rows = keep_wanted(team);
      product(team, block.attn_out, mixed, delta, rows);
      sum_norm(team, true, block.ff_gain, normed, rows);
      product(team, block.gate, normed, wide, rows);
      team.share(rows, [&](int64_t begin, int64_t end) {
        int64_t n = block.down.ins;
        for (int64_t row = begin; row < end; row++) {
          const float* both = wide + row * 2 * n;
          exp_minus(both, gated_rows + row * n, n);
          gate_row(both, both + n, gated_rows + row * n, n);
        }
      });
      team.meet();
      product(team, block.down, gated_rows, delta, rows);
    }
    sum_norm(team, true, net.last_gain, y, rows);
  }

  void attend(const Team& team, const CachedAttention& attention, int64_t total) const {
    float* room = scratch(std::max(attention.place_room(), attention.attend_room()));
    team.share(count, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) attention.place(row, wide + row * total, turned, room);
    });
    team.meet();
    int64_t heads = attention.heads, head_width = attention.width;
    team.share(tasks.size(), [&](int64_t begin, int64_t end) {
      for (int64_t number = begin; number < end; number++)
        attention.attend(tasks[number], turned, room, [&](const float* result, int64_t query, int64_t head) {
          std::memcpy(mixed + (query * heads + head) * head_width, result, head_width * 4);
        });
    });
    team.meet();
  }

  // Behind the last attention only the wanted positions go on. `wide` and `normed` are free there, and hold the rows
  // while they change their places.
  int64_t keep_wanted(const Team& team) const {
    int64_t across = net.blocks[0].attn_out.ins;
    team.share(kept, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        std::memcpy(normed + row * width, x + wanted[row] * width, width * 4);
        std::memcpy(turned + row * across, mixed + wanted[row] * across, across * 4);
      }
    });
    team.meet();
    team.share(kept, [&](int64_t begin, int64_t end) {
      std::memcpy(x + begin * width, normed + begin * width, (end - begin) * width * 4);
      std::memcpy(mixed + begin * across, turned + begin * across, (end - begin) * across * 4);
    });
    team.meet();
    return kept;
  }
};
}  // namespace

// The least number of floating-point operations that another thread is started for.
static constexpr double OPERATIONS_OF_A_THREAD = 1e6;

static int64_t threads_for(const SamplingBlocks& net, int64_t count) {
  double operations = 0;
  for (const SamplingBlock& block : net.blocks)
    for (const PackedMatrix* weight : {&block.joined, &block.attn_out, &block.gate, &block.down})
      operations += 2.0 * count * weight->ins * weight->outs;
  int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  return std::clamp<int64_t>(static_cast<int64_t>(operations / OPERATIONS_OF_A_THREAD), 1, threads);
}

// Computes the hidden states after the last norm of the wanted positions, [N, D].
static Tensor run(const SamplingBlocks& net, const Tensor& ids, const Tensor& cos, const Tensor& sin, const Tensor& chunks,
                  const Tensor& places, Tensor* const* keys, Tensor* const* values, const Tensor& wanted, int64_t set,
                  void (*beat)()) {
  int64_t count = places.size(0), kept = wanted.numel(), width = net.table.size(1);
  TORCH_CHECK(ids.numel() >= count && !net.blocks.empty(), "sampling blocks: misshapen");
  for (int64_t row = 0; row < count; row++) {
    int64_t id = data<int64_t>(ids)[row];
    TORCH_CHECK(id >= 0 && id < net.table.size(0), "sampling blocks: token ", id, " of ", net.table.size(0));
  }
  for (int64_t row = 0; row < kept; row++) {
    int64_t at = data<int64_t>(wanted)[row];
    TORCH_CHECK(at >= 0 && at < count, "sampling blocks: position ", at, " of ", count);
  }
  SamplingPass pass{net, data<int64_t>(ids), data<int64_t>(wanted), count, kept, width, beat};
  for (size_t block = 0; block < net.blocks.size(); block++) {
    pass.attention.emplace_back(*keys[block], *values[block], cos, sin, places, net.heads, net.width,
                                1.0 / std::sqrt(static_cast<double>(net.width)), net.eps, set);
    TORCH_CHECK(net.blocks[block].joined.outs == pass.attention[block].joined_width(), "sampling blocks: another cache");
    if (net.blocks[block].q_gain.defined()) pass.attention[block].normalise_with(net.blocks[block].q_gain, net.blocks[block].k_gain);
  }
  pass.tasks = pass.attention[0].tasks_of(chunks);
  const SamplingBlock& block = net.blocks[0];
  int64_t rows = (std::max(count, kept) + 3) / 4 * 4, across = block.attn_out.ins;
  int64_t widest = std::max(block.joined.outs, block.gate.outs);
  Tensor room = at::empty({rows * (3 * width + 2 * across + widest + block.down.ins)}, net.table.options());
  Tensor y = at::empty({kept, width}, net.table.options());
  float* next = out<float>(room);
  auto take = [&](int64_t columns) { return std::exchange(next, next + rows * columns); };
  pass.x = take(width);
  pass.delta = take(width);
  pass.normed = take(width);
  pass.turned = take(across);
  pass.mixed = take(across);
  pass.wide = take(widest);
  pass.gated_rows = take(block.down.ins);
  pass.y = out<float>(y);
  // The rows that fill up are computed, and nothing reads them. They begin as zeros, so that they are numbers.
  for (auto [from, columns] : {std::pair{pass.normed, width}, {pass.mixed, across}, {pass.gated_rows, block.down.ins}})
    std::fill(from + std::min(count, kept) * columns, from + rows * columns, 0.0f);
#ifdef _OPENMP
  int64_t threads = threads_for(net, count);
#pragma omp parallel num_threads(threads)
  pass.run({omp_get_thread_num(), omp_get_num_threads()});
#else
  pass.run({0, 1});
#endif
  return y;
}

// A packed weight as Rust passes it.
struct PackedHandle {
  Tensor* bytes;
  int64_t ins, outs, pieces;

  PackedMatrix matrix() const { return PackedMatrix{*bytes, ins, outs, pieces}; }
};

extern "C" {
int demask_sampling_blocks(Tensor* table, Tensor* last_gain, double embedding_scale, double eps, int64_t heads, int64_t width,
                           SamplingBlocks** made) {
  return guarded([&] {
    TORCH_CHECK(table->is_contiguous() && table->scalar_type() == at::kFloat, "sampling blocks: misshapen");
    *made = new SamplingBlocks{*table, *last_gain, static_cast<float>(embedding_scale), eps, heads, width, {}};
  });
}

// The gains of queries and keys are both present or both null. `weights` are the stacked projection, the output of
// attention, the stacked gate and its factor, and the last layer.
int demask_sampling_blocks_add(SamplingBlocks* net, Tensor* attn_gain, Tensor* ff_gain, Tensor* q_gain, Tensor* k_gain,
                               const PackedHandle* weights) {
  return guarded([&] {
    SamplingBlock block{*attn_gain, *ff_gain, q_gain ? *q_gain : Tensor(), k_gain ? *k_gain : Tensor(), weights[0].matrix(),
                        weights[1].matrix(), weights[2].matrix(), weights[3].matrix()};
    int64_t width = net->table.size(1);
    bool fits = block.joined.ins == width && block.attn_out.ins == net->heads * net->width && block.attn_out.outs == width &&
                block.gate.ins == width && block.gate.outs == 2 * block.down.ins && block.down.outs == width;
    TORCH_CHECK(fits, "sampling blocks: misshapen weights");
    net->blocks.push_back(std::move(block));
  });
}

void demask_sampling_blocks_free(SamplingBlocks* net) { delete net; }

// `keys` and `values` have a tensor for each block.
int demask_sampling_blocks_run(const SamplingBlocks* net, Tensor* ids, Tensor* cos, Tensor* sin, Tensor* chunks, Tensor* places,
                               Tensor* const* keys, Tensor* const* values, Tensor* wanted, int64_t set, void (*beat)(),
                               Tensor** y) {
  return guarded([&] { give(y, run(*net, *ids, *cos, *sin, *chunks, *places, keys, values, *wanted, set, beat)); });
}
}
