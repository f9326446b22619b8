// A matrix product with a frozen weight that exists only during the product. The forward pass and the
// backward pass each make the weight, so that between them only its source (for example quantised values) is
// kept. Any device, any dtype. There is no gradient of the weight or the bias.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <memory>

#include "rows.h"

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

namespace {

// Makes the weight of an owner, or writes an error message to `words`.
using Make = int (*)(const void* owner, Tensor** made, char* words, size_t room);
using Drop = void (*)(void* owner);

struct MadeWeight : torch::CustomClassHolder {
  void* owner;
  Make make;
  Drop drop;

  MadeWeight(void* owner, Make make, Drop drop) : owner(owner), make(make), drop(drop) {}
  ~MadeWeight() override { drop(owner); }

  Tensor get() const {
    char words[512] = "";
    Tensor* made = nullptr;
    TORCH_CHECK(make(owner, &made, words, sizeof words) == 0, words);
    std::unique_ptr<Tensor> owned(made);
    return *owned;
  }
};

struct FrozenLinear : Function<FrozenLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const c10::intrusive_ptr<MadeWeight>& weight,
                        const std::optional<Tensor>& bias) {
    ctx->saved_data["weight"] = c10::IValue::make_capsule(weight);
    return at::linear(x, weight->get(), bias);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto weight = c10::static_intrusive_pointer_cast<MadeWeight>(ctx->saved_data["weight"].toCapsule());
    return {grads[0].matmul(weight->get()), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {
// Takes ownership of `owner`, also if it fails.
int demask_frozen_linear(const Tensor* x, void* owner, Make make, Drop drop, const Tensor* bias, Tensor** y) {
  return guarded([&] {
    auto weight = c10::make_intrusive<MadeWeight>(owner, make, drop);
    give(y, FrozenLinear::apply(*x, weight, perhaps(bias)));
  });
}
}
