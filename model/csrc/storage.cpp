// The memory of tensors that stay referenced while their contents come and go: sharded weights, which are
// gathered and freed.

#include <deque>
#include <mutex>

#include "rows.h"

namespace {

// Keeps the blocks that were freed last for the next allocation of the same size. A network's blocks are
// alike, and memory that is new to a process costs a page fault every four kilobytes. On a GPU libtorch's
// allocator does this itself.
class Spares {
  static constexpr size_t MOST = 2;
  std::mutex one_at_a_time;
  std::deque<std::pair<size_t, at::DataPtr>> spares;

 public:
  void keep(size_t bytes, at::DataPtr memory) {
    if (bytes == 0 || !memory.device().is_cpu()) return;
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    spares.emplace_back(bytes, std::move(memory));
    if (spares.size() > MOST) spares.pop_front();
  }

  std::optional<at::DataPtr> take(size_t bytes, const at::Device& device) {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    for (auto spare = spares.begin(); device.is_cpu() && spare != spares.end(); spare++) {
      if (spare->first != bytes) continue;
      at::DataPtr memory = std::move(spare->second);
      spares.erase(spare);
      return memory;
    }
    return std::nullopt;
  }
};

// The spares are never freed, because threads may outlive main.
Spares& spares() {
  static auto* all = new Spares;
  return *all;
}

}  // namespace

extern "C" {
// Frees a tensor's memory (`wanted` 0), or allocates `wanted` bytes with arbitrary values. All views of the
// tensor are affected.
int demask_storage_resize(Tensor* tensor, int64_t wanted) {
  return guarded([&] {
    auto* storage = tensor->storage().unsafeGetStorageImpl();
    const auto bytes = static_cast<size_t>(wanted);
    const auto device = tensor->device();
    if (storage->nbytes() == bytes) return;
    if (bytes == 0) {
      spares().keep(storage->nbytes(), storage->set_data_ptr(at::DataPtr(nullptr, device)));
    } else {
      TORCH_CHECK(storage->allocator(), "a storage without an allocator");
      auto spare = spares().take(bytes, device);
      storage->set_data_ptr_noswap(spare ? std::move(*spare) : storage->allocator()->allocate(bytes));
    }
    storage->set_nbytes(bytes);
  });
}

// Drops the gradient of a leaf and its memory.
int demask_grad_drop(Tensor* leaf) {
  return guarded([&] { leaf->mutable_grad().reset(); });
}
}
