// The forward pass of a sampler through all transformer blocks in one call, on a CPU with packed weights, f32 or bf16.
//
// A cached step computes few positions: 32 positions of the shipped model take half a millisecond of arithmetic. Called
// operator by operator, it takes three times as long, for allocations, dispatch and the starts of parallel regions.
// Here one team of threads goes through all blocks, with a barrier between two stages, and all intermediate results lie
// in one allocation. With bf16 weights only the inputs of matrix products are rounded to bf16; the rest is computed in
// f32.
//
// Legend: T computed positions, N wanted positions, D width, F feed-forward width, H query heads, E head width.

#include "cached_attention.h"
#include "packed.h"

#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

// An RMS norm: its gain and its bias, [D] in f32. The bias is undefined if there is none.
struct SamplingNorm {
  Tensor gain, bias;

  void compute(const float* row, float* to, int64_t n, double eps) const {
    norm_row(row, to, data<float>(gain), n, eps, false);
    if (bias.defined()) add_row(to, data<float>(bias), n);
  }
};

// A linear layer: its packed weight, and its bias, [O] in f32, which is undefined if there is none.
struct SamplingLayer {
  PackedMatrix weight;
  Tensor bias;

  // Computes some shares of x wᵀ + bias ([`PackedMatrix::multiply`]).
  void compute(const void* x, float* y, int64_t rows, int64_t begin, int64_t end) const {
    weight.multiply(x, y, rows, begin, end);
    if (bias.defined()) weight.add_bias(data<float>(bias), y, rows, begin, end);
  }
};

struct SamplingBlock {
  // The gains of the norms of queries and keys are undefined if these are not normalised.
  SamplingNorm attn_norm, ff_norm, q_norm, k_norm;
  SamplingLayer joined, attn_out, gate, down;
};

struct SamplingBlocks {
  Tensor table;
  SamplingNorm last_norm;
  float embedding_scale;
  double eps;
  int64_t heads, width;
  std::vector<SamplingBlock> blocks;
  // The first block's projections of all tokens, [V, (H + 2K) E] in f32; undefined if they take too much memory.
  Tensor first_projections;
};

namespace {
// The threads that run a pass together.
struct Team {
  int64_t me, size;
  // Memory of this thread alone.
  float* room;

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

// The rows that a matrix product reads, in the dtype of its weight: [T, stride]. What is behind the columns of a row is
// zero.
struct Inputs {
  float* at = nullptr;
  int64_t columns = 0, stride = 0;
  bool is_bf16 = false;

  uint16_t* bf16(int64_t row) const { return reinterpret_cast<uint16_t*>(at) + row * stride; }
  float* f32(int64_t row) const { return at + row * stride; }
  // Where to compute a row, and where to say that it is there. bf16 rows are computed in `room`.
  float* fresh(int64_t row, float* room) const { return is_bf16 ? room : f32(row); }
  void keep(int64_t row, const float* room) const {
    if (is_bf16) narrow(room, bf16(row), columns);
  }
  // Writes n numbers of a row from column `from` on.
  void write(int64_t row, int64_t from, const float* values, int64_t n) const {
    if (is_bf16) narrow(values, bf16(row) + from, n);
    else std::memcpy(f32(row) + from, values, n * 4);
  }
  // These inputs from a row on.
  Inputs from(int64_t row) const { return {static_cast<float*>(this->row(row)), columns, stride, is_bf16}; }
  void* row(int64_t row) const { return is_bf16 ? static_cast<void*>(bf16(row)) : f32(row); }
  int64_t row_bytes() const { return stride * (is_bf16 ? 2 : 4); }
};

void embed(const SamplingBlocks& net, int64_t token, float* to) {
  int64_t width = net.table.size(1);
  load(net.table, token * width, to, width);
  scale_row(to, net.embedding_scale, width);
}

// Writes the normalised embeddings of some tokens, the inputs of the first block's projection.
// `room` has 2 D floats.
void norm_tokens(const SamplingBlocks& net, const SamplingBlock& first, const int64_t* tokens, int64_t count,
                 const Inputs& to, float* room) {
  int64_t width = net.table.size(1);
  for (int64_t row = 0; row < count; row++) {
    embed(net, tokens[row], room);
    first.attn_norm.compute(room, to.fresh(row, room + width), width, net.eps);
    to.keep(row, room + width);
  }
}

// One pass: what all threads read, and the memory that they fill.
struct SamplingPass {
  const SamplingBlocks& net;
  const int64_t *ids, *wanted;
  int64_t count, kept, width;
  // The first block's input depends on a position's token alone, so equal tokens share a row of its projection: the
  // rows, of the table of all tokens or of this pass; the row of each position, [T]; and the tokens of this pass's rows.
  const float* first_rows;
  const int64_t* first_row_of;
  const std::vector<int64_t>& first_tokens;
  void (*beat)();
  std::vector<CachedAttention> attention;
  std::vector<Task> tasks;
  // The residual stream and what is to be added to it, [T, D]; rotated queries, [T, H E]; the widest result of a
  // product, [T, ..]; and the result of the pass, [N, D].
  float *x, *delta, *turned, *wide, *y;
  // Normalised, [T, D]; mixed values, [T, H E]; gated, [T, F].
  Inputs normed, mixed, gated_rows;

  void product(const Team& team, const SamplingLayer& layer, const Inputs& from, float* to, int64_t rows) const {
    team.share(layer.weight.shares(rows),
               [&](int64_t begin, int64_t end) { layer.compute(from.at, to, rows, begin, end); });
    team.meet();
  }

  // Adds `delta` to the stream, and gives the normalised row to `take`, in memory that `place` names.
  template <typename Place, typename Take>
  void sum_norm(const Team& team, const SamplingNorm& norm, int64_t rows, const Place& place, const Take& take) const {
    team.share(rows, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        float* stream = x + row * width;
        add_row(stream, delta + row * width, width);
        norm.compute(stream, place(row, team.room), width, net.eps);
        take(row, team.room);
      }
    });
    team.meet();
  }

  void norm_inputs(const Team& team, const SamplingNorm& norm, int64_t rows) const {
    sum_norm(team, norm, rows, [&](int64_t row, float* room) { return normed.fresh(row, room); },
             [&](int64_t row, const float* room) { normed.keep(row, room); });
  }

  // Begins the stream with the embedding, and projects the tokens that no table has.
  void begin(const Team& team) const {
    const SamplingBlock& first = net.blocks[0];
    team.share(count, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) embed(net, ids[row], x + row * width);
    });
    int64_t rows = first_tokens.size();
    if (rows > 0) {
      team.share(rows, [&](int64_t begin, int64_t end) {
        norm_tokens(net, first, &first_tokens[begin], end - begin, normed.from(begin), team.room);
      });
      team.meet();
      product(team, first.joined, normed, wide, rows);
    }
  }

  void run(const Team& team) const {
    begin(team);
    int64_t rows = count;
    for (size_t number = 0; number < net.blocks.size(); number++) {
      const SamplingBlock& block = net.blocks[number];
      if (team.me == 0) beat();
      if (number > 0) {
        norm_inputs(team, block.attn_norm, rows);
        product(team, block.joined, normed, wide, rows);
      }
      attend(team, attention[number], number > 0 ? wide : first_rows, number > 0 ? nullptr : first_row_of,
             block.joined.weight.outs);
      if (number + 1 == net.blocks.size()) rows = keep_wanted(team);
      product(team, block.attn_out, mixed, delta, rows);
      norm_inputs(team, block.ff_norm, rows);
      product(team, block.gate, normed, wide, rows);
      team.share(rows, [&](int64_t begin, int64_t end) {
        int64_t n = block.down.weight.ins;
        for (int64_t row = begin; row < end; row++) {
          const float* both = wide + row * 2 * n;
          float* to = gated_rows.fresh(row, team.room);
          exp_minus(both, to, n);
          gate_row(both, both + n, to, n);
          gated_rows.keep(row, team.room);
        }
      });
      team.meet();
      product(team, block.down, gated_rows, delta, rows);
    }
    sum_norm(
        team, net.last_norm, rows, [&](int64_t row, float*) { return y + row * width; },
        [](int64_t, const float*) {});
  }

  // Attends with a stacked projection of `total` columns. Its row of each position is `row_of`, or null if the rows are
  // the positions.
  void attend(const Team& team, const CachedAttention& attention, const float* joined, const int64_t* row_of,
              int64_t total) const {
    team.share(count, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++)
        attention.place(row, joined + (row_of ? row_of[row] : row) * total, turned, team.room);
    });
    team.meet();
    int64_t head_width = attention.width;
    team.share(tasks.size(), [&](int64_t begin, int64_t end) {
      for (int64_t number = begin; number < end; number++)
        attention.attend(tasks[number], turned, team.room, [&](const float* result, int64_t query, int64_t head) {
          mixed.write(query, head * head_width, result, head_width);
        });
    });
    team.meet();
  }

  // Behind the last attention only the wanted positions go on. `delta` and `turned` are free there, and hold the rows
  // while they change their places.
  int64_t keep_wanted(const Team& team) const {
    int64_t bytes = mixed.row_bytes();
    char* room = reinterpret_cast<char*>(turned);
    team.share(kept, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        std::memcpy(delta + row * width, x + wanted[row] * width, width * 4);
        std::memcpy(room + row * bytes, mixed.row(wanted[row]), bytes);
      }
    });
    team.meet();
    team.share(kept, [&](int64_t begin, int64_t end) {
      std::memcpy(x + begin * width, delta + begin * width, (end - begin) * width * 4);
      std::memcpy(mixed.row(begin), room + begin * bytes, (end - begin) * bytes);
    });
    team.meet();
    return kept;
  }
};

// Hands out pieces of one allocation, each of which begins at a cache line.
class Room {
  float* next;

 public:
  static constexpr int64_t LINE = 16;
  explicit Room(const Tensor& from) : next(out<float>(from)) {}

  static int64_t lines(int64_t numbers) { return (numbers + LINE - 1) / LINE * LINE; }

  float* take(int64_t numbers) { return std::exchange(next, next + lines(numbers)); }
};

// The floats that the inputs of a product with a weight take for so many rows.
int64_t input_floats(const PackedMatrix& weight, int64_t rows) {
  return weight.stride() * rows * weight.packed.element_size() / 4;
}

Inputs inputs_of(const PackedMatrix& weight, float* at, int64_t rows) {
  Inputs inputs{at, weight.ins, weight.stride(), PackedMatrix::is_bf16(weight.packed)};
  // What fills up the columns must be zero. The rows that fill up are computed, and nothing reads them; they are
  // numbers at least.
  if (inputs.is_bf16) std::memset(at, 0, input_floats(weight, rows) * 4);
  return inputs;
}
}  // namespace

// The most bytes of the first block's projections of all tokens.
static constexpr int64_t MOST_PROJECTIONS = 8 << 20;

// Returns the first block's projections of all tokens, or an undefined tensor if they take too much memory.
static Tensor projections_of(const SamplingBlocks& net) {
  constexpr int64_t ROWS = Products::ROWS;
  const SamplingBlock& first = net.blocks[0];
  const PackedMatrix& weight = first.joined.weight;
  int64_t tokens = net.table.size(0), outs = weight.outs, floats = input_floats(weight, ROWS);
  if (tokens * outs * 4 > MOST_PROJECTIONS) return Tensor();
  Tensor all = at::empty({tokens, outs}, at::kFloat);
  at::parallel_for(0, (tokens + ROWS - 1) / ROWS, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> x(floats), room(2 * net.table.size(1));
    Inputs inputs = inputs_of(weight, x.data(), ROWS);
    for (int64_t part = begin; part < end; part++) {
      int64_t from = part * ROWS, count = std::min(ROWS, tokens - from), names[ROWS];
      for (int64_t row = 0; row < count; row++) names[row] = from + row;
      norm_tokens(net, first, names, count, inputs, room.data());
      first.joined.compute(inputs.at, out<float>(all) + from * outs, count, 0, weight.pieces());
    }
  });
  return all;
}

// The distinct tokens of a pass, in the order in which they come, and each position's number among them.
struct DistinctTokens {
  std::vector<int64_t> tokens, number_of;

  DistinctTokens(const int64_t* ids, int64_t count, int64_t vocabulary) : number_of(count) {
    static thread_local std::vector<int64_t> known;
    if (static_cast<int64_t>(known.size()) < vocabulary) known.resize(vocabulary, -1);
    // Nothing may be thrown below, because what is known of a token would stay for the thread's next pass.
    tokens.reserve(count);
    for (int64_t row = 0; row < count; row++) {
      int64_t& number = known[ids[row]];
      if (number < 0) {
        number = tokens.size();
        tokens.push_back(ids[row]);
      }
      number_of[row] = number;
    }
    for (int64_t token : tokens) known[token] = -1;
  }
};

// The least number of floating-point operations that another thread is started for.
static constexpr double OPERATIONS_OF_A_THREAD = 1e6;

static int64_t threads_for(const SamplingBlocks& net, int64_t count) {
  double operations = 0;
  for (const SamplingBlock& block : net.blocks)
    for (const SamplingLayer* layer : {&block.joined, &block.attn_out, &block.gate, &block.down})
      operations += 2.0 * count * layer->weight.ins * layer->weight.outs;
  int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  return std::clamp<int64_t>(static_cast<int64_t>(operations / OPERATIONS_OF_A_THREAD), 1, threads);
}

// Computes the hidden states after the last norm of the wanted positions, [N, D].
static Tensor run(const SamplingBlocks& net, const Tensor& ids, const Tensor& cos, const Tensor& sin,
                  const Tensor& chunks, const Tensor& places, Tensor* const* keys, Tensor* const* values,
                  const Tensor& wanted, int64_t set, void (*beat)()) {
  int64_t count = places.size(0), kept = wanted.numel(), width = net.table.size(1);
  TORCH_CHECK(ids.numel() >= count && !net.blocks.empty(), "sampling blocks: misshapen");
  TORCH_CHECK(kept <= count, "sampling blocks: ", kept, " wanted positions of ", count);
  for (int64_t row = 0; row < count; row++) {
    int64_t id = data<int64_t>(ids)[row];
    TORCH_CHECK(id >= 0 && id < net.table.size(0), "sampling blocks: token ", id, " of ", net.table.size(0));
  }
  for (int64_t row = 0; row < kept; row++) {
    int64_t at = data<int64_t>(wanted)[row];
    TORCH_CHECK(at >= 0 && at < count, "sampling blocks: position ", at, " of ", count);
  }
  bool has_table = net.first_projections.defined();
  DistinctTokens distinct(data<int64_t>(ids), has_table ? 0 : count, net.table.size(0));
  SamplingPass pass{net, data<int64_t>(ids), data<int64_t>(wanted), count, kept, width,
                    has_table ? data<float>(net.first_projections) : nullptr,
                    has_table ? data<int64_t>(ids) : distinct.number_of.data(), distinct.tokens, beat};
  for (size_t block = 0; block < net.blocks.size(); block++) {
    pass.attention.emplace_back(*keys[block], *values[block], cos, sin, places, net.heads, net.width,
                                1.0 / std::sqrt(static_cast<double>(net.width)), net.eps, set);
    const SamplingBlock& own = net.blocks[block];
    TORCH_CHECK(own.joined.weight.outs == pass.attention[block].joined_width(), "sampling blocks: another cache");
    if (own.q_norm.gain.defined()) pass.attention[block].normalise_with(own.q_norm.gain, own.k_norm.gain);
    if (own.q_norm.bias.defined()) pass.attention[block].shift_with(own.q_norm.bias, own.k_norm.bias);
  }
  pass.tasks = pass.attention[0].tasks_of(chunks);
  const SamplingBlock& block = net.blocks[0];
  const PackedMatrix &joined = block.joined.weight, &attn_out = block.attn_out.weight, &down = block.down.weight;
  int64_t rows = joined.rows_read(count), across = attn_out.stride();
  int64_t widest = std::max(joined.outs, block.gate.weight.outs);
  int64_t floats = 2 * Room::lines(rows * width) + Room::lines(rows * across) + Room::lines(rows * widest);
  for (const PackedMatrix* weight : {&joined, &attn_out, &down})
    floats += Room::lines(input_floats(*weight, rows));
  // Nothing may be thrown by the team, so its threads allocate nothing.
  int64_t threads = threads_for(net, count), of_thread = std::max(2 * width, down.ins);
  for (const CachedAttention& attention : pass.attention)
    of_thread = std::max({of_thread, attention.place_room(), attention.attend_room()});
  floats += threads * Room::lines(of_thread);
  Tensor memory = at::empty({floats}, at::kFloat), y = at::empty({kept, width}, at::kFloat);
  Room room(memory);
  pass.x = room.take(rows * width);
  pass.delta = room.take(rows * width);
  pass.turned = room.take(rows * across);
  pass.wide = room.take(rows * widest);
  if (!has_table) pass.first_rows = pass.wide;
  auto inputs = [&](const PackedMatrix& weight) {
    return inputs_of(weight, room.take(input_floats(weight, rows)), rows);
  };
  pass.normed = inputs(joined);
  pass.mixed = inputs(attn_out);
  pass.gated_rows = inputs(down);
  pass.y = out<float>(y);
  float* rooms = room.take(threads * Room::lines(of_thread));
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
  {
    int64_t me = omp_get_thread_num();
    pass.run({me, omp_get_num_threads(), rooms + me * Room::lines(of_thread)});
  }
#else
  pass.run({0, 1, rooms});
#endif
  return y.to(net.table.scalar_type());
}

// Returns a gain or a bias of n numbers in f32, or an undefined tensor of null.
static Tensor row_of(const Tensor* from, int64_t n) {
  if (!from) return Tensor();
  TORCH_CHECK(from->numel() == n, "sampling blocks: a gain or bias of ", from->numel(), " numbers, expected ", n);
  return from->detach().to(at::kFloat).contiguous();
}

static SamplingNorm norm_of(const Tensor* gain, const Tensor* bias, int64_t n) {
  return {row_of(gain, n), row_of(bias, n)};
}

// A packed weight as Rust passes it.
struct PackedHandle {
  Tensor* packed;
  int64_t ins, outs, set;

  PackedMatrix matrix() const { return PackedMatrix::of(*packed, ins, outs, set); }
};

extern "C" {
// Every bias may be null.
int demask_sampling_blocks(Tensor* table, Tensor* last_gain, Tensor* last_bias, double embedding_scale, double eps,
                           int64_t heads, int64_t width, SamplingBlocks** made) {
  return guarded([&] {
    bool known = table->scalar_type() == at::kFloat || table->scalar_type() == at::kBFloat16;
    TORCH_CHECK(table->dim() == 2 && table->is_contiguous() && known, "sampling blocks: misshapen");
    SamplingNorm norm = norm_of(last_gain, last_bias, table->size(1));
    *made = new SamplingBlocks{*table, norm, static_cast<float>(embedding_scale), eps, heads, width, {}, {}};
  });
}

// `gains` and `biases_of_norms` are those of the norms before attention and before the feed-forward layers, of queries
// and of keys; the gains of the last two are both present or both null, and so are their biases. `weights` and `biases`
// are those of the stacked projection, of the output of attention, of the stacked gate and its factor, and of the last
// layer. Every bias may be null.
int demask_sampling_blocks_add(SamplingBlocks* net, Tensor* const* gains, Tensor* const* biases_of_norms,
                               const PackedHandle* weights, Tensor* const* biases) {
  return guarded([&] {
    int64_t width = net->table.size(1), q_width = net->heads * net->width;
    auto layer = [&](int64_t at) {
      PackedMatrix weight = weights[at].matrix();
      return SamplingLayer{weight, row_of(biases[at], weight.outs)};
    };
    const SamplingLayer joined = layer(0);
    int64_t kv_width = (joined.weight.outs - q_width) / 2;
    auto norm = [&](int64_t at, int64_t n) { return norm_of(gains[at], biases_of_norms[at], n); };
    SamplingBlock block{norm(0, width), norm(1, width), norm(2, q_width), norm(3, kv_width),
                        joined,         layer(1),       layer(2),         layer(3)};
    const PackedMatrix &attn_out = block.attn_out.weight, &gate = block.gate.weight, &down = block.down.weight;
    // A pass has room for the rows of the first block, so all blocks must be alike.
    const SamplingBlock& first = net->blocks.empty() ? block : net->blocks.front();
    for (const PackedMatrix* weight : {&joined.weight, &attn_out, &gate, &down})
      TORCH_CHECK(weight->is_whole() && weight->products == first.joined.weight.products,
                  "sampling blocks: misshapen weights");
    bool fits = joined.weight.outs == first.joined.weight.outs && down.ins == first.down.weight.ins &&
                joined.weight.ins == width && attn_out.ins == q_width && attn_out.outs == width && gate.ins == width &&
                gate.outs == 2 * down.ins && down.outs == width;
    TORCH_CHECK(fits, "sampling blocks: misshapen weights");
    bool are_norms = block.attn_norm.gain.defined() && block.ff_norm.gain.defined() &&
                     block.q_norm.gain.defined() == block.k_norm.gain.defined() &&
                     block.q_norm.bias.defined() == block.k_norm.bias.defined();
    TORCH_CHECK(are_norms, "sampling blocks: a norm is missing");
    net->blocks.push_back(std::move(block));
    if (net->blocks.size() == 1) net->first_projections = projections_of(*net);
  });
}

void demask_sampling_blocks_free(SamplingBlocks* net) { delete net; }

// `keys` and `values` have a tensor for each block.
int demask_sampling_blocks_run(const SamplingBlocks* net, Tensor* ids, Tensor* cos, Tensor* sin, Tensor* chunks,
                               Tensor* places, Tensor* const* keys, Tensor* const* values, Tensor* wanted, int64_t set,
                               void (*beat)(), Tensor** y) {
  return guarded([&] { give(y, run(*net, *ids, *cos, *sin, *chunks, *places, keys, values, *wanted, set, beat)); });
}
}
