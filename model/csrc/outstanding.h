// The calls of a group that are not known to be done. On a GPU a call ends after the host has returned from it. One
// thread makes the calls, another asks whether they are done, and a third only reads which of them is the first. The
// third takes no lock that is held while CUDA or NCCL is asked, so it goes on if one of them never answers.
#pragma once

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <cstdint>
#include <exception>
#include <iterator>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

class Outstanding {
 public:
  struct Call {
    int64_t number;
    int64_t limit_ms;
    // Recorded behind the call on the stream that waits for it; absent while the host is in the call.
    std::optional<c10::Event> end;
  };
  using Place = std::list<Call>::iterator;

  explicit Outstanding(int64_t limit_ms) : limit_ms_(limit_ms) {}

  // Sets the time limit of calls that are made from now on.
  void set_limit(int64_t limit_ms) {
    const std::lock_guard<std::mutex> lock(calls_lock_);
    limit_ms_ = limit_ms;
  }

  Place enter() {
    const std::lock_guard<std::mutex> lock(calls_lock_);
    calls_.push_back(Call{++made_, limit_ms_, std::nullopt});
    tell();
    return std::prev(calls_.end());
  }

  void leave(Place call) {
    const std::lock_guard<std::mutex> lock(calls_lock_);
    calls_.erase(call);
    tell();
  }

  void queue(Place call, c10::Event end) {
    const std::lock_guard<std::mutex> lock(calls_lock_);
    call->end.emplace(std::move(end));
  }

  // Notes the group's device, and a small call from which errors of its communicator can be asked for.
  void met(c10::Device device, c10::intrusive_ptr<c10d::Work> first) {
    const std::lock_guard<std::mutex> lock(calls_lock_);
    device_ = device;
    probe_ = std::move(first);
  }

  std::optional<c10::Device> device() {
    const std::lock_guard<std::mutex> lock(calls_lock_);
    return device_;
  }

  // Forgets the calls that are done. Throws if the communicator has an error. An error of the device is left to the
  // thread that computes, which meets it too.
  void look() {
    const std::lock_guard<std::mutex> lock(calls_lock_);
    const c10::OptionalDeviceGuard guard(device_);
    try {
      while (!calls_.empty() && calls_.front().end && calls_.front().end->query()) {
        calls_.pop_front();
        tell();
      }
      if (calls_.empty() || !probe_ || !probe_->isCompleted()) return;
    } catch (const std::exception&) {
      return;
    }
    if (const auto error = probe_->exception()) std::rethrow_exception(error);
  }

  // Returns the number of the first call, 0 if there is none, and its limit.
  std::pair<int64_t, int64_t> first() {
    const std::lock_guard<std::mutex> lock(first_lock_);
    return first_;
  }

 private:
  void tell() {
    const std::lock_guard<std::mutex> lock(first_lock_);
    first_ = {0, 0};
    if (!calls_.empty()) first_ = {calls_.front().number, calls_.front().limit_ms};
  }

  std::mutex calls_lock_;
  std::list<Call> calls_;
  int64_t made_ = 0;
  int64_t limit_ms_;
  std::optional<c10::Device> device_;
  c10::intrusive_ptr<c10d::Work> probe_;

  std::mutex first_lock_;
  std::pair<int64_t, int64_t> first_{0, 0};
};

// A call from its beginning until the host returns. It then counts as done, unless it has been queued on a device.
class HostCall {
 public:
  // `outstanding` may be null, if nobody watches the group.
  explicit HostCall(std::shared_ptr<Outstanding> outstanding) : outstanding_(std::move(outstanding)) {
    if (outstanding_) call_ = outstanding_->enter();
  }

  ~HostCall() {
    if (outstanding_) outstanding_->leave(call_);
  }

  HostCall(const HostCall&) = delete;
  HostCall& operator=(const HostCall&) = delete;

  // The device's current stream waits for the call, which ends there.
  void ends_on(c10::Device device) {
    if (!outstanding_ || device.is_cpu()) return;
    c10::Event end(device.type());
    end.record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
    outstanding_->queue(call_, std::move(end));
    outstanding_.reset();
  }

 private:
  std::shared_ptr<Outstanding> outstanding_;
  Outstanding::Place call_;
};
