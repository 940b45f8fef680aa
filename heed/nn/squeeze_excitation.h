// Squeeze and excitation (Hu 2018): output = x * w, w = sigmoid(W2 relu(W1 mean over pixels of x)),
// a weight a channel.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace heed::nn {

struct SqueezeExcitationOptions {
  int64_t channels;        // C
  int64_t reduction = 16;  // r: C / r channels, at least 1, between W1 and W2
  bool bias = true;        // of W1 and W2
};

struct ChannelAttentionOutput {
  at::Tensor output;           // [B,C,rows,columns]
  at::Tensor channel_weights;  // [B,C], each in (0, 1); no gradient
};

// A gate and no softmax: channels do not compete, and nothing of attention's engine is needed.
class SqueezeExcitationImpl : public torch::nn::Module {
 public:
  explicit SqueezeExcitationImpl(const SqueezeExcitationOptions& options);

  // He's normal, as in the paper; biases 0.
  void reset_parameters();

  // x [B,C,rows,columns].
  ChannelAttentionOutput forward(const at::Tensor& x);

  void pretty_print(std::ostream& stream) const override;

 private:
  SqueezeExcitationOptions options_;
  torch::nn::Linear reduce_{nullptr}, expand_{nullptr};
};
TORCH_MODULE(SqueezeExcitation);

}  // namespace heed::nn
