// The memory of tensors that stay where they are referred to while what they hold comes and goes: weights that ranks share out.

#include "rows.h"

extern "C" {
// Gives a tensor's memory back, or has room for so many bytes again, whose values are whatever they are. All views of it see it.
int demask_storage_resize(Tensor* tensor, int64_t bytes) {
  return guarded([&] {
    auto* storage = tensor->storage().unsafeGetStorageImpl();
    if (bytes == 0) {
      storage->set_data_ptr_noswap(at::DataPtr(nullptr, tensor->device()));
    } else {
      TORCH_CHECK(storage->allocator(), "a storage without an allocator");
      storage->set_data_ptr_noswap(storage->allocator()->allocate(static_cast<size_t>(bytes)));
    }
    storage->set_nbytes(static_cast<size_t>(bytes));
  });
}

// A leaf has no gradient any more, and its memory goes.
int demask_grad_drop(Tensor* leaf) {
  return guarded([&] { leaf->mutable_grad().reset(); });
}
}
