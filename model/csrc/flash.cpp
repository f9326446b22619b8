// Flash attention over rows of any lengths, by the name that libtorch dispatches by: the kernel is in its CUDA half, which is
// opened at start-up where there is one (`cuda.rs`).

#include <ATen/ops/_flash_attention_forward.h>

#include "rows.h"

extern "C" {
// q [T, H, E], k and v [S, K, E]; where each row's queries begin and, last, T; where its keys begin and, last, an end; how many
// keys it has (may be null: up to where the next row's begin). Gives [T, H, E], with gradients where `keys` is null.
int demask_flash_rows(Tensor* q, Tensor* k, Tensor* v, Tensor* first_query, Tensor* first_key, Tensor* keys,
                      int64_t longest_queries, int64_t longest_keys, double scale, Tensor** y) {
  return guarded([&] {
    auto all = at::_flash_attention_forward(*q, *k, *v, *first_query, *first_key, longest_queries, longest_keys, 0.0, false,
                                            false, scale, std::nullopt, std::nullopt, perhaps(keys), std::nullopt);
    give(y, std::get<0>(all));
  });
}
}
