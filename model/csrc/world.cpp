// Stores and process groups of libtorch's c10d. Groups are constructed through the mangled names of their
// constructors and used through the abstract `c10d::Backend`: C++ has no registry of backends, and their
// headers need those of Gloo and NCCL, which libtorch does not ship. Names and sizes are those of libtorch
// 2.11, which a test checks. The linker binds Gloo's names; NCCL's are looked up in libtorch's CUDA libraries
// once these are open.

#include <dlfcn.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "outstanding.h"
#include "rows.h"

namespace {

using c10::intrusive_ptr;
using c10d::Backend;
using c10d::Store;
using c10d::Work;
using Options = intrusive_ptr<Backend::Options>;
using std::chrono::milliseconds;

// The return codes of functions besides 0: an error, and a wait that timed out.
constexpr int FAILED = 1, TIMED_OUT = 2;

// Upper bounds on the size of a group (Gloo 488, NCCL 1112 bytes) and of its options.
constexpr size_t GLOO_ROOM = 4096, NCCL_ROOM = 16384, OPTIONS_ROOM = 4096;

// Like `guarded`, but without the stack trace, which in c10d's errors is a page long.
template <typename F> int told(F f) {
  try {
    f();
    return 0;
  } catch (const c10::Error& error) {
    last_error = error.what_without_backtrace();
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "an unknown fault";
  }
  return FAILED;
}

Options gloo_options(milliseconds timeout) asm(
    "_ZN4c10d16ProcessGroupGloo7Options14create_defaultENSt6chrono8durationIlSt5ratioILl1ELl1000EEEE");
void make_gloo(void* room, const intrusive_ptr<Store>& store, int rank, int size, Options options) asm(
    "_ZN4c10d16ProcessGroupGlooC1ERKN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_typeIS3_"
    "EEEEiiNS2_INS0_7OptionsENS5_ISA_EEEE");

constexpr const char* NCCL_OPTIONS = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
constexpr const char* NCCL_GROUP =
    "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_typeIS3_"
    "EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE";

template <typename F> F found(const char* name) {
  auto at = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
  TORCH_CHECK(at, "no NCCL here: libtorch's CUDA half is not open, or has no ", name);
  return at;
}

// Constructs an object of a class of which only the constructor's address is known.
template <typename T, typename F> intrusive_ptr<T> made(size_t room, F construct) {
  void* at = operator new(room);
  std::memset(at, 0, room);
  try {
    construct(at);
  } catch (...) {
    operator delete(at);
    throw;
  }
  return intrusive_ptr<T>::unsafe_steal_from_new(static_cast<T*>(at));
}

intrusive_ptr<Backend> gloo(const intrusive_ptr<Store>& store, int rank, int size, milliseconds timeout) {
  Options options = gloo_options(timeout);
  return made<Backend>(GLOO_ROOM, [&](void* at) { make_gloo(at, store, rank, size, options); });
}

intrusive_ptr<Backend> nccl(const intrusive_ptr<Store>& store, int rank, int size, milliseconds timeout) {
  const auto make_options = found<void (*)(void*, bool)>(NCCL_OPTIONS);
  const auto make = found<void (*)(void*, intrusive_ptr<Store>, int, int, Options)>(NCCL_GROUP);
  const auto options = made<Backend::Options>(OPTIONS_ROOM, [&](void* at) { make_options(at, false); });
  options->timeout = timeout;
  return made<Backend>(NCCL_ROOM, [&](void* at) { make(at, store, rank, size, options); });
}

// Makes the host wait for a call on the CPU, and the current stream for one on a GPU. NCCL's `wait` would make the host
// wait there too, because of the settings that a group over NCCL is made with (`src/world/nccl.rs`).
void finish(const intrusive_ptr<Work>& work, const Tensor& tensor) {
  if (tensor.is_cuda()) {
    work->blockCurrentStream();
  } else {
    TORCH_CHECK(work->wait(), "a collective was given up");
  }
}

// Marks a tensor as changed, for caches that are keyed by its version.
void changed(const Tensor& tensor) { tensor.unsafeGetTensorImpl()->bump_version(); }

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Sums the squares of a chunk in eight columns, an order that does not depend on threads.
double squares(const float* from, int64_t n) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int64_t j = 0; j < 8; j++) sums[j] += static_cast<double>(from[i + j]) * from[i + j];
  for (int64_t j = 0; i < n; i++, j++) sums[j] += static_cast<double>(from[i]) * from[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

// Handles of stores and groups; each holds one counted pointer.
struct DemaskStore {
  intrusive_ptr<Store> store;
};
struct DemaskGroup {
  intrusive_ptr<Backend> group;
  // Null unless somebody watches the group.
  std::shared_ptr<Outstanding> outstanding;
};
struct DemaskWatch {
  std::shared_ptr<Outstanding> outstanding;
};

// Calls in progress, with the tensors that they write to and the times at which they began and the last of
// them ended.
struct DemaskCalls {
  std::vector<intrusive_ptr<Work>> works;
  std::vector<Tensor> written;
  std::shared_ptr<Outstanding> outstanding;
  double began = now();
  std::shared_ptr<std::atomic<double>> ended = std::make_shared<std::atomic<double>>(0.0);

  void add(const intrusive_ptr<Work>& work, const Tensor& into) {
    works.push_back(work);
    written.push_back(into);
    // Only Gloo reports when a call ended on its own threads. NCCL's calls end at a point of a CUDA stream.
    if (into.is_cuda()) return;
    const auto at = ended;
    work->getFuture()->addCallback([at](c10::ivalue::Future&) { at->store(now()); });
  }

  // Waits as `finish` does. A stream that has waited keeps the memory of the calls from other use, so this also comes
  // before calls are dropped that nobody waits for.
  void finish_all() {
    for (size_t i = 0; i < works.size(); i++) finish(works[i], written[i]);
    works.clear();
  }
};

extern "C" {
int demask_store_of_file(const char* path, int64_t size, DemaskStore** to) {
  return told([&] { *to = new DemaskStore{c10::make_intrusive<c10d::FileStore>(path, static_cast<int>(size))}; });
}

// `listening` is the descriptor of the socket that this process serves the store on, or -1 if another process
// serves it.
int demask_store_of_tcp(const char* host, int64_t port, int64_t listening, int64_t ms, DemaskStore** to) {
  return told([&] {
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(port);
    options.isServer = listening >= 0;
    options.waitWorkers = false;
    options.multiTenant = true;
    options.timeout = milliseconds(ms);
    if (listening >= 0) options.masterListenFd = static_cast<int>(listening);
    *to = new DemaskStore{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

// Makes a view of the store that puts a prefix before every key.
int demask_store_below(DemaskStore* store, const char* prefix, int64_t ms, DemaskStore** to) {
  return told([&] {
    store->store->setTimeout(milliseconds(ms));
    *to = new DemaskStore{c10::make_intrusive<c10d::PrefixStore>(prefix, store->store)};
  });
}

int demask_store_add(DemaskStore* store, const char* key, int64_t by, int64_t* sum) {
  return told([&] { *sum = store->store->add(key, by); });
}

int demask_store_set(DemaskStore* store, const char* key, const char* value) {
  return told([&] { store->store->set(key, std::string(value)); });
}

// Copies the first `room` bytes of a key's value. Waits for the key as long as the store's limit says.
int demask_store_get(DemaskStore* store, const char* key, uint8_t* to, int64_t room, int64_t* length) {
  return told([&] {
    const std::vector<uint8_t> value = store->store->get(key);
    *length = std::min(static_cast<int64_t>(value.size()), room);
    std::copy_n(value.begin(), *length, to);
  });
}

// Waits until a key is set; TIMED_OUT if it is not set in time. c10d's error of stores tells that. Not every store
// throws it, so any failure after the limit counts as well.
int demask_store_wait(DemaskStore* store, const char* key, int64_t ms) {
  const double limit = now() + 1e-3 * static_cast<double>(ms);
  bool is_late = false;
  const int code = told([&] {
    try {
      store->store->wait({key}, milliseconds(ms));
    } catch (const c10::DistStoreError&) {
      is_late = true;
      throw;
    }
  });
  return code != 0 && (is_late || now() >= limit) ? TIMED_OUT : code;
}

void demask_store_drop(DemaskStore* store) {
  told([&] { delete store; });
}

int demask_group_open(DemaskStore* store, int64_t rank, int64_t size, int64_t ms, int over_nccl, DemaskGroup** to) {
  return told([&] {
    const auto open = over_nccl ? nccl : gloo;
    *to = new DemaskGroup{open(store->store, static_cast<int>(rank), static_cast<int>(size), milliseconds(ms)), nullptr};
  });
}

void demask_group_drop(DemaskGroup* group) {
  told([&] { delete group; });
}

int demask_group_limit(DemaskGroup* group, int64_t ms) {
  return told([&] {
    group->group->setTimeout(milliseconds(ms));
    if (group->outstanding) group->outstanding->set_limit(ms);
  });
}

// Begins to note the group's calls. `ms` is their time limit.
int demask_group_watch(DemaskGroup* group, int64_t ms, DemaskWatch** to) {
  return told([&] {
    group->outstanding = std::make_shared<Outstanding>(ms);
    *to = new DemaskWatch{group->outstanding};
  });
}

// Returns the number of the first call that is not known to be done, 0 if there is none, and its limit. Asks neither
// CUDA nor NCCL.
void demask_watch_first(DemaskWatch* watch, int64_t* number, int64_t* ms) {
  const auto [first, limit] = watch->outstanding->first();
  *number = first;
  *ms = limit;
}

// Forgets the calls that are done. An error is one of the communicator.
int demask_watch_look(DemaskWatch* watch) {
  return told([&] { watch->outstanding->look(); });
}

void demask_watch_drop(DemaskWatch* watch) {
  told([&] { delete watch; });
}

// Adds up one number of each rank: the first call of a group over NCCL, which connects the ranks on the tensor's device.
int demask_group_meet(DemaskGroup* group, Tensor* one) {
  return told([&] {
    HostCall call(group->outstanding);
    std::vector<Tensor> tensors{*one};
    const auto work = group->group->allreduce(tensors, c10d::AllreduceOptions());
    if (group->outstanding) group->outstanding->met(one->device(), work);
    finish(work, *one);
    call.ends_on(one->device());
    changed(*one);
  });
}

int demask_group_broadcast(DemaskGroup* group, Tensor* tensor, int64_t from) {
  return told([&] {
    std::vector<Tensor> tensors{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = from;
    HostCall call(group->outstanding);
    finish(group->group->broadcast(tensors, options), *tensor);
    call.ends_on(tensor->device());
    changed(*tensor);
  });
}

// `how` is c10d's number of the reduction: 0 sum, 1 mean, 3 minimum, 4 maximum.
int demask_group_all_reduce(DemaskGroup* group, Tensor* tensor, int64_t how) {
  return told([&] {
    std::vector<Tensor> tensors{*tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = static_cast<c10d::ReduceOp::RedOpType>(how);
    HostCall call(group->outstanding);
    finish(group->group->allreduce(tensors, options), *tensor);
    call.ends_on(tensor->device());
    changed(*tensor);
  });
}

int demask_group_all_to_all(DemaskGroup* group, Tensor* to, Tensor* from) {
  return told([&] {
    std::vector<int64_t> equal;
    HostCall call(group->outstanding);
    finish(group->group->alltoall_base(*to, *from, equal, equal, c10d::AllToAllOptions()), *to);
    call.ends_on(to->device());
    changed(*to);
  });
}

// Broadcasts piece r from rank r, all pieces at the same time. An empty piece is skipped.
int demask_group_all_gather(DemaskGroup* group, Tensor** pieces, int64_t count) {
  return told([&] {
    HostCall call(group->outstanding);
    std::vector<std::pair<intrusive_ptr<Work>, Tensor>> works;
    for (int64_t rank = 0; rank < count; rank++) {
      if (pieces[rank]->numel() == 0) continue;
      std::vector<Tensor> tensors{*pieces[rank]};
      c10d::BroadcastOptions options;
      options.rootRank = rank;
      works.emplace_back(group->group->broadcast(tensors, options), *pieces[rank]);
    }
    for (const auto& [work, piece] : works) finish(work, piece);
    if (!works.empty()) call.ends_on(works.back().second.device());
    for (int64_t rank = 0; rank < count; rank++) changed(*pieces[rank]);
  });
}

// Starts to broadcast piece i from rank `roots[i]`, without waiting. No piece may be empty.
int demask_group_begin_gather(DemaskGroup* group, Tensor** pieces, const int64_t* roots, int64_t count,
                              DemaskCalls** to) {
  return told([&] {
    auto calls = std::make_unique<DemaskCalls>();
    calls->outstanding = group->outstanding;
    HostCall call(group->outstanding);
    for (int64_t i = 0; i < count; i++) {
      std::vector<Tensor> tensors{*pieces[i]};
      c10d::BroadcastOptions options;
      options.rootRank = roots[i];
      calls->add(group->group->broadcast(tensors, options), *pieces[i]);
    }
    *to = calls.release();
  });
}

// Starts an all-to-all with unequal lengths: sends the first `from_lengths[0]` numbers of `from` to rank 0
// and so on, and receives `to_lengths[r]` numbers from each rank r.
int demask_group_begin_exchange(DemaskGroup* group, Tensor* to, Tensor* from, const int64_t* to_lengths,
                                const int64_t* from_lengths, int64_t size, DemaskCalls** out) {
  return told([&] {
    auto calls = std::make_unique<DemaskCalls>();
    calls->outstanding = group->outstanding;
    HostCall call(group->outstanding);
    std::vector<int64_t> received(to_lengths, to_lengths + size), sent(from_lengths, from_lengths + size);
    calls->add(group->group->alltoall_base(*to, *from, received, sent, c10d::AllToAllOptions()), *to);
    *out = calls.release();
  });
}

// Waits for calls in progress. `times` receives when they began and ended, in seconds of a steady clock.
int demask_calls_wait(DemaskCalls* calls, double* times) {
  return told([&] {
    HostCall call(calls->outstanding);
    calls->finish_all();
    if (!calls->written.empty()) call.ends_on(calls->written.back().device());
    for (const auto& tensor : calls->written) changed(tensor);
    times[0] = calls->began;
    times[1] = calls->ended->load();
    if (times[1] == 0) times[1] = now();
  });
}

void demask_calls_drop(DemaskCalls* calls) {
  // Only a GPU's stream waits here, because a host might wait for ever for a peer that is gone.
  told([&] {
    if (!calls->written.empty() && calls->written.back().is_cuda()) calls->finish_all();
  });
  told([&] { delete calls; });
}

int demask_group_barrier(DemaskGroup* group) {
  return told([&] {
    HostCall call(group->outstanding);
    c10d::BarrierOptions options;
    // NCCL would otherwise guess the device.
    const auto device = group->outstanding ? group->outstanding->device() : std::nullopt;
    if (device) options.device_ids = {device->index()};
    TORCH_CHECK(group->group->barrier(options)->wait(), "a collective was given up");
  });
}

// Computes the sum of squares of each `chunk` of a flat f32 tensor on the CPU, as f64.
int demask_chunk_squares(Tensor* flat, int64_t chunk, Tensor* sums) {
  return told([&] {
    const int64_t n = flat->numel(), chunks = (n + chunk - 1) / chunk;
    TORCH_CHECK(flat->is_contiguous() && flat->scalar_type() == at::kFloat && flat->device().is_cpu() &&
                    sums->is_contiguous() && sums->scalar_type() == at::kDouble && sums->numel() == chunks,
                "sums of squares: misshapen tensors");
    const float* from = data<float>(*flat);
    double* to = out<double>(*sums);
    at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) to[i] = squares(from + i * chunk, std::min(chunk, n - i * chunk));
    });
  });
}
}
