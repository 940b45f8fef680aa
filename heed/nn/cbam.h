// Convolutional block attention module (Woo 2018): a weight a channel, sigmoid(mlp(mean) +
// mlp(max) over pixels), then a weight a pixel, sigmoid(conv7x7([mean, max] over channels)).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace heed::nn {

struct CbamOptions {
  int64_t channels;         // C
  int64_t reduction = 16;   // r: C / r channels, at least 1, inside the perceptron
  int64_t kernel_size = 7;  // of the convolution, odd
  bool bias = true;         // of the perceptron; the convolution has none
};

struct CbamOutput {
  at::Tensor output;           // [B,C,rows,columns]
  at::Tensor channel_weights;  // [B,C], each in (0, 1); no gradient
  at::Tensor spatial_weights;  // [B,rows,columns], each in (0, 1); no gradient
};

// Of equal maxima the first has the gradient.
class CbamImpl : public torch::nn::Module {
 public:
  explicit CbamImpl(const CbamOptions& options);

  // He's normal, biases 0.
  void reset_parameters();

  // x [B,C,rows,columns].
  CbamOutput forward(const at::Tensor& x);

  void pretty_print(std::ostream& stream) const override;

 private:
  CbamOptions options_;
  torch::nn::Linear reduce_{nullptr}, expand_{nullptr};
  torch::nn::Conv2d spatial_{nullptr};
};
TORCH_MODULE(Cbam);

}  // namespace heed::nn
