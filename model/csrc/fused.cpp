// The fused kernels of a transformer block, with their gradients: residual sum and RMS norm, the split into
// heads with rotary embedding, attention over short sequences, the gate, and the log-probability of a label.
// Each makes one pass over memory.
//
// CPU only, f32 and bf16. The roundings are those of the composed operators (mmada.md 1.4). Every sum has a
// fixed order that does not depend on the number of threads (L8).

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>

#include "rows.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// The residual sum s = x + delta and its RMS norm y = weight * round(s / rms(s)). Returns s and y, or y alone
// without `delta`.

CLONES static void norm_backward_row(const float* R s, const float* R dy, const float* R w, float* R dx, float* R dw,
                                     float scale, float mean, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float unit = s[i] * scale;
    dw[i] += dy[i] * unit;
    dx[i] += scale * (dy[i] * w[i] - unit * mean);
  }
}
CLONES static float dot3(const float* R a, const float* R b, const float* R c, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i] * c[i];
  return sum;
}

struct SumNorm : Function<SumNorm> {
  static constexpr int64_t BLOCK = 64;

  static variable_list forward(AutogradContext* ctx, const Tensor& x_in, const std::optional<Tensor>& delta_in,
                               const Tensor& weight, double eps) {
    Tensor x = x_in.contiguous();
    bool sum = delta_in.has_value();
    Tensor delta = sum ? delta_in->contiguous() : Tensor();
    int64_t n = x.size(-1), rows = x.numel() / std::max<int64_t>(n, 1);
    TORCH_CHECK(weight.numel() == n, "norm: a gain of ", weight.numel(), " numbers for a width of ", n);
    TORCH_CHECK(!sum || (delta.sizes() == x.sizes() && delta.scalar_type() == x.scalar_type()), "norm: unlike terms");
    Tensor s = sum ? at::empty_like(x) : x, y = at::empty_like(x);
    Tensor scales = at::empty({rows}, x.options().dtype(at::kFloat));
    Tensor gain = weight.detach().to(at::kFloat).contiguous();
    bool half = x.scalar_type() != at::kFloat;
    for_rows(rows, n, [&](int64_t begin, int64_t end) {
      float *a = scratch(3 * n), *b = a + n, *c = b + n;
      for (int64_t row = begin; row < end; row++) {
        const float* term = read(x, row * n, a, n);
        if (sum) {
          float* both = fresh(s, row * n, c);
          sum_rows(term, read(delta, row * n, b, n), both, n);
          if (half) round_row(both, n);
          store(both, s, row * n, n);
          term = both;
        }
        float scale = 1.0f / std::sqrt(sum_squares(term, n) / n + static_cast<float>(eps));
        out<float>(scales)[row] = scale;
        float* to = fresh(y, row * n, b);
        scaled_row(term, scale, to, n);
        if (half) round_row(to, n);
        multiply_row(to, data<float>(gain), n);
        store(to, y, row * n, n);
      }
    });
    ctx->save_for_backward({s.detach(), scales, gain});
    ctx->saved_data["sum"] = sum;
    ctx->saved_data["kind"] = static_cast<int64_t>(weight.scalar_type());
    ctx->set_materialize_grads(false);
    return sum ? variable_list{s, y} : variable_list{y};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &s = saved[0], &scales = saved[1], &gain = saved[2];
    bool sum = ctx->saved_data["sum"].toBool();
    Tensor dy = grads.back().defined() ? grads.back().contiguous() : Tensor();
    Tensor ds = sum && grads[0].defined() ? grads[0].contiguous() : Tensor();
    if (!dy.defined()) return {ds, sum ? ds : Tensor(), Tensor(), Tensor()};
    int64_t n = s.size(-1), rows = s.numel() / n, blocks = (rows + BLOCK - 1) / BLOCK;
    Tensor dx = at::empty_like(s);
    Tensor parts = at::zeros({blocks, n}, scales.options());
    const float* w = data<float>(gain);
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      float *a = scratch(3 * n), *b = a + n, *c = b + n;
      for (int64_t block = begin; block < end; block++)
        for (int64_t row = block * BLOCK; row < std::min(rows, (block + 1) * BLOCK); row++) {
          const float *term = read(s, row * n, a, n), *slope = read(dy, row * n, b, n);
          float* to = fresh(dx, row * n, c);
          if (ds.defined()) load(ds, row * n, to, n);
          else std::fill(to, to + n, 0.0f);
          float scale = data<float>(scales)[row];
          float mean = dot3(term, slope, w, n) * scale / n;
          norm_backward_row(term, slope, w, to, out<float>(parts) + block * n, scale, mean, n);
          store(to, dx, row * n, n);
        }
    });
    Tensor dw = parts.sum(0).to(static_cast<at::ScalarType>(ctx->saved_data["kind"].toInt()));
    return {dx, sum ? dx : Tensor(), dw, Tensor()};
  }
};

// The split of the stacked projection, [B, L, (H + 2K) E], into q, k and v, [B, heads, L, E], with q and k
// rotated by their positions.

CLONES static void turn(const float* R x, float* R y, const float* R cos, const float* R sin, float sign,
                        int64_t half) {
  for (int64_t i = 0; i < half; i++) {
    y[i] = x[i] * cos[i] - sign * x[half + i] * sin[i];
    y[half + i] = x[half + i] * cos[i] + sign * x[i] * sin[i];
  }
}

// Rows may be packed: [1, T, ..] holds only the real tokens of B rows of L positions, and `index`, [T], has
// the position of each of them in B x L. The other positions are zero in q, k and v.

struct SplitTurn : Function<SplitTurn> {
  static void run(const Tensor& joined, const std::vector<Tensor>& parts, const Tensor& cos, const Tensor& sin,
                  const Tensor& index, bool back) {
    int64_t rows = joined.size(0) * joined.size(1), total = joined.size(2);
    int64_t length = parts[0].size(2), width = parts[0].size(3), half = width / 2, stride = cos.size(1);
    const int64_t* place = index.defined() ? data<int64_t>(index) : nullptr;
    for_rows(rows, total, [&](int64_t begin, int64_t end) {
      float *a = scratch(2 * width), *b = a + width;
      for (int64_t row = begin; row < end; row++) {
        int64_t stands = place ? place[row] : row, position = stands % length, at = row * total;
        const float *c = data<float>(cos) + position * stride, *s = data<float>(sin) + position * stride;
        for (size_t part = 0; part < 3; part++) {
          int64_t heads = parts[part].size(1);
          for (int64_t head = 0; head < heads; head++, at += width) {
            int64_t there = ((stands / length * heads + head) * length + position) * width;
            const float* from = read(back ? parts[part] : joined, back ? there : at, a, width);
            const Tensor& goal = back ? joined : parts[part];
            if (part < 2) {
              float* to = fresh(goal, back ? at : there, b);
              turn(from, to, c, s, back ? -1.0f : 1.0f, half);
              from = to;
            }
            store(from, goal, back ? at : there, width);
          }
        }
      }
    });
  }

  static variable_list forward(AutogradContext* ctx, const Tensor& joined_in, const Tensor& cos, const Tensor& sin,
                               const std::optional<Tensor>& index_in, int64_t batch, int64_t length, int64_t heads,
                               int64_t kv_heads, int64_t width) {
    Tensor index = index_in.value_or(Tensor());
    Tensor joined = joined_in.contiguous();
    TORCH_CHECK(joined.size(2) == (heads + 2 * kv_heads) * width && cos.size(0) >= length, "rotary: misshapen");
    TORCH_CHECK(joined.size(0) * joined.size(1) == (index.defined() ? index.numel() : batch * length), "rotary: rows");
    auto part = [&](int64_t count) {
      std::vector<int64_t> shape{batch, count, length, width};
      return index.defined() ? at::zeros(shape, joined.options()) : at::empty(shape, joined.options());
    };
    std::vector<Tensor> parts{part(heads), part(kv_heads), part(kv_heads)};
    run(joined, parts, cos, sin, index, false);
    ctx->save_for_backward({cos, sin, index});
    ctx->saved_data["sizes"] = std::vector<int64_t>{joined.size(0), joined.size(1), joined.size(2)};
    return {parts[0], parts[1], parts[2]};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    auto sizes = ctx->saved_data["sizes"].toIntVector();
    std::vector<Tensor> parts{grads[0].contiguous(), grads[1].contiguous(), grads[2].contiguous()};
    Tensor joined = at::empty({sizes[0], sizes[1], sizes[2]}, parts[0].options());
    run(joined, parts, saved[0], saved[1], saved[2], true);
    variable_list none(9);
    none[0] = joined;
    return none;
  }
};

// Attention, softmax(scale q k^T) v, of q, k and v, [B, H, L, E] each, with merged heads: [B, L, H E]. With
// packed rows it is [1, T, H E]; `index` is as above and `pads`, [B], has the number of leading positions
// that each row lacks. It keeps the L x L probabilities for the backward pass, and is meant for short
// sequences.

CLONES static void softmax_backward_row(const float* R p, float* R slope, float mean, float scale, int64_t n) {
  for (int64_t i = 0; i < n; i++) slope[i] = p[i] * (slope[i] - mean) * scale;
}

struct Attend : Function<Attend> {
  static Tensor flat(const Tensor& x) { return x.contiguous().view({-1, x.size(2), x.size(3)}); }

  // Copies rows from [B H, L, E] to packed rows, [T, H E], if `pack`, and back otherwise.
  static void carry(const Tensor& packed, const Tensor& heads_LE, const Tensor& index, int64_t heads, bool pack) {
    int64_t length = heads_LE.size(1), width = heads_LE.size(2), bytes = width * heads_LE.element_size();
    char *near = static_cast<char*>(packed.mutable_data_ptr()), *far = static_cast<char*>(heads_LE.mutable_data_ptr());
    for_rows(index.numel(), heads * width, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        int64_t stands = data<int64_t>(index)[row];
        for (int64_t head = 0; head < heads; head++) {
          char* a = near + (row * heads + head) * bytes;
          char* b = far + ((stands / length * heads + head) * length + stands % length) * bytes;
          std::memcpy(pack ? a : b, pack ? b : a, bytes);
        }
      }
    });
  }

  static Tensor forward(AutogradContext* ctx, const Tensor& q_in, const Tensor& k_in, const Tensor& v_in,
                        const std::optional<Tensor>& pads_in, const std::optional<Tensor>& index_in, double scale) {
    Tensor pads = pads_in.value_or(Tensor()), index = index_in.value_or(Tensor());
    Tensor q = flat(q_in), k = flat(k_in), v = flat(v_in);
    Tensor p = at::bmm(q, k.transpose(1, 2));
    int64_t n = p.size(2), rows = p.size(0) * n, heads = q_in.size(1);
    for_rows(rows, n, [&](int64_t begin, int64_t end) {
      float* a = scratch(n);
      for (int64_t row = begin; row < end; row++) {
        int64_t first = pads.defined() ? data<int64_t>(pads)[row / n / heads] : 0, m = n - first;
        bool real = row % n >= first;
        float* scores = change(p, row * n, a, n);
        std::fill(scores, scores + (real ? first : n), 0.0f);
        if (real) {
          float sum = exp_row(scores + first, static_cast<float>(scale), highest(scores + first, m), m);
          scale_row(scores + first, 1.0f / sum, m);
        }
        store(scores, p, row * n, n);
      }
    });
    ctx->save_for_backward({q.detach(), k.detach(), v.detach(), p, index});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["heads"] = heads;
    Tensor mixed = at::bmm(p, v);
    if (!index.defined()) {
      Tensor merged = mixed.view(q_in.sizes()).transpose(1, 2).contiguous();
      return merged.view({q_in.size(0), q_in.size(2), -1});
    }
    Tensor packed = at::empty({1, index.numel(), heads * q.size(2)}, q.options());
    carry(packed, mixed, index, heads, true);
    return packed;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &p = saved[3], &index = saved[4];
    double scale = ctx->saved_data["scale"].toDouble();
    int64_t heads = ctx->saved_data["heads"].toInt(), n = p.size(2), rows = p.size(0) * n, width = q.size(2);
    std::vector<int64_t> shape{q.size(0) / heads, heads, q.size(1), width};
    Tensor dy;
    if (index.defined()) {
      dy = at::zeros_like(q);
      carry(grads[0].contiguous(), dy, index, heads, false);
    } else {
      dy = flat(grads[0].reshape({shape[0], shape[2], heads, width}).transpose(1, 2));
    }
    Tensor dv = at::bmm(p.transpose(1, 2), dy), ds = at::bmm(dy, v.transpose(1, 2));
    // For a key that is not attended to, p is 0, and so is its gradient.
    for_rows(rows, n, [&](int64_t begin, int64_t end) {
      float *a = scratch(2 * n), *b = a + n;
      for (int64_t row = begin; row < end; row++) {
        const float* chances = read(p, row * n, a, n);
        float* slopes = change(ds, row * n, b, n);
        softmax_backward_row(chances, slopes, dot(chances, slopes, n), static_cast<float>(scale), n);
        store(slopes, ds, row * n, n);
      }
    });
    Tensor dq = at::bmm(ds, k), dk = at::bmm(ds.transpose(1, 2), q);
    return {dq.view(shape), dk.view(shape), dv.view(shape), Tensor(), Tensor(), Tensor()};
  }
};

// The gate, silu(gate) * up of [.., 2F], where the gate is the first half.

CLONES static void gate_row_rounded(const float* R gate, const float* R up, float* R y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = widened(narrowed(gate[i] / (1.0f + y[i]))) * up[i];
}
CLONES static void gate_backward_row(const float* R gate, const float* R up, const float* R dy, float* R dgate,
                                     float* R dup, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float sigmoid = 1.0f / (1.0f + fast_exp(-gate[i]));
    dup[i] = dy[i] * gate[i] * sigmoid;
    dgate[i] = dy[i] * up[i] * sigmoid * (1.0f + gate[i] * (1.0f - sigmoid));
  }
}

struct Gate : Function<Gate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x_in) {
    Tensor x = x_in.contiguous();
    auto sizes = x.sizes().vec();
    sizes.back() /= 2;
    int64_t n = sizes.back(), rows = x.numel() / (2 * n);
    Tensor y = at::empty(sizes, x.options());
    bool half = x.scalar_type() != at::kFloat;
    for_rows(rows, n, [&](int64_t begin, int64_t end) {
      float *a = scratch(3 * n), *b = a + 2 * n;
      for (int64_t row = begin; row < end; row++) {
        const float* both = read(x, row * 2 * n, a, 2 * n);
        float* to = fresh(y, row * n, b);
        exp_minus(both, to, n);
        (half ? gate_row_rounded : gate_row)(both, both + n, to, n);
        store(to, y, row * n, n);
      }
    });
    ctx->save_for_backward({x.detach()});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    Tensor x = ctx->get_saved_variables()[0], dy = grads[0].contiguous(), dx = at::empty_like(x);
    int64_t n = x.size(-1) / 2, rows = x.numel() / (2 * n);
    for_rows(rows, n, [&](int64_t begin, int64_t end) {
      float *a = scratch(5 * n), *b = a + 2 * n, *c = b + n;
      for (int64_t row = begin; row < end; row++) {
        const float *both = read(x, row * 2 * n, a, 2 * n), *slope = read(dy, row * n, b, n);
        float* to = fresh(dx, row * 2 * n, c);
        gate_backward_row(both, both + n, slope, to, to + n, n);
        store(to, dx, row * 2 * n, 2 * n);
      }
    });
    return {dx};
  }
};

// The log-probability of each row's label, log softmax(logits)[label], f32.

CLONES static void soften(const float* R a, float* R to, float shift, float by, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = fast_exp(a[i] - shift) * by;
}

struct LabelLogProb : Function<LabelLogProb> {
  static Tensor forward(AutogradContext* ctx, const Tensor& logits_in, const Tensor& labels) {
    Tensor logits = logits_in.contiguous();
    int64_t rows = logits.size(0), n = logits.size(1);
    TORCH_CHECK(labels.numel() == rows && labels.scalar_type() == at::kLong, "log-probability: ", rows,
                " labels wanted");
    for (int64_t row = 0; row < rows; row++) {
      int64_t label = data<int64_t>(labels)[row];
      TORCH_CHECK(label >= 0 && label < n, "log-probability: label ", label, " of ", n);
    }
    Tensor y = at::empty({rows}, logits.options().dtype(at::kFloat)), shift = at::empty_like(y);
    for_rows(rows, n, [&](int64_t begin, int64_t end) {
      float* a = scratch(n);
      for (int64_t row = begin; row < end; row++) {
        const float* columns = read(logits, row * n, a, n);
        float top = highest(columns, n);
        float norm = top + std::log(sum_exp(columns, top, n));
        out<float>(shift)[row] = norm;
        out<float>(y)[row] = columns[data<int64_t>(labels)[row]] - norm;
      }
    });
    ctx->save_for_backward({logits.detach(), labels, shift});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &labels = saved[1], &shift = saved[2];
    Tensor dy = grads[0].contiguous(), dx = at::empty_like(logits);
    int64_t rows = logits.size(0), n = logits.size(1);
    for_rows(rows, n, [&](int64_t begin, int64_t end) {
      float *a = scratch(2 * n), *b = a + n;
      for (int64_t row = begin; row < end; row++) {
        float slope = data<float>(dy)[row];
        float* to = fresh(dx, row * n, b);
        soften(read(logits, row * n, a, n), to, data<float>(shift)[row], -slope, n);
        to[data<int64_t>(labels)[row]] += slope;
        store(to, dx, row * n, n);
      }
    });
    return {dx, Tensor()};
  }
};

extern "C" {
const char* demask_last_error() { return last_error.c_str(); }

void demask_meet_threads() { at::internal::lazy_init_num_threads(); }

// `delta` may be null; then `sum` is not written.
int demask_sum_norm(Tensor* x, Tensor* delta, Tensor* weight, double eps, Tensor** sum, Tensor** y) {
  return guarded([&] {
    auto both = SumNorm::apply(*x, perhaps(delta), *weight, eps);
    if (delta) give(sum, both[0]);
    give(y, both.back());
  });
}

// `index` may be null; then the rows are not packed.
int demask_split_turn(Tensor* joined, Tensor* cos, Tensor* sin, Tensor* index, int64_t batch, int64_t length,
                      int64_t heads, int64_t kv_heads, int64_t width, Tensor** q, Tensor** k, Tensor** v) {
  return guarded([&] {
    auto parts = SplitTurn::apply(*joined, *cos, *sin, perhaps(index), batch, length, heads, kv_heads, width);
    give(q, parts[0]);
    give(k, parts[1]);
    give(v, parts[2]);
  });
}

// `pads` and `index` are both present or both null.
int demask_attend(Tensor* q, Tensor* k, Tensor* v, Tensor* pads, Tensor* index, double scale, Tensor** y) {
  return guarded([&] {
    give(y, Attend::apply(*q, *k, *v, perhaps(pads), perhaps(index), scale));
  });
}

int demask_gate(Tensor* x, Tensor** y) {
  return guarded([&] { give(y, Gate::apply(*x)); });
}

int demask_label_log_prob(Tensor* logits, Tensor* labels, Tensor** y) {
  return guarded([&] { give(y, LabelLogProb::apply(*logits, *labels)); });
}
}
