// Flash attention over rows of any lengths, called through libtorch's dispatcher. The kernel is in libtorch's
// CUDA libraries, which are loaded at start-up if there are any (`src/device/cuda/`).

#include <ATen/ops/_flash_attention_forward.h>

#include "rows.h"

extern "C" {
// Attends q [T, H, E] to k and v [S, K, E]: [T, H, E]. `first_query` has the first query of each row, and T
// at the end; `first_key` the first key of each row, and an end; `keys` the number of keys of each row. If
// `keys` is null, the keys of a row end where those of the next begin, and the result has gradients.
int demask_flash_rows(Tensor* q, Tensor* k, Tensor* v, Tensor* first_query, Tensor* first_key, Tensor* keys,
                      int64_t longest_queries, int64_t longest_keys, double scale, Tensor** y) {
  return guarded([&] {
    auto all =
        at::_flash_attention_forward(*q, *k, *v, *first_query, *first_key, longest_queries, longest_keys, 0.0, false,
                                     false, scale, std::nullopt, std::nullopt, perhaps(keys), std::nullopt);
    give(y, std::get<0>(all));
  });
}
}
