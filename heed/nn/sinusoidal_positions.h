// Sinusoidal positions (Vaswani 2017): x[t] + p(t), p(t)[2i] = sin(t / base^(2i/E)), p(t)[2i + 1] =
// cos(t / base^(2i/E)).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace heed::nn {

struct SinusoidalPositionsOptions {
  int64_t embed_size;  // E, even
  double base = 10000;
};

class SinusoidalPositionsImpl : public torch::nn::Module {
 public:
  explicit SinusoidalPositionsImpl(const SinusoidalPositionsOptions& options);

  // x [B,T,E], offset [B] int64, the place of each element's first row (undefined: 0) -> [B,T,E].
  at::Tensor forward(const at::Tensor& x, const at::Tensor& offset = {});

  // places [...] -> [...,E] in double precision.
  at::Tensor encode(const at::Tensor& places) const;

  void pretty_print(std::ostream& stream) const override;

 private:
  SinusoidalPositionsOptions options_;
};
TORCH_MODULE(SinusoidalPositions);

// places [...] -> place / base^(2i/size) [...,size/2], double: float32 is off at 10^5 already.
at::Tensor wave_angles(const at::Tensor& places, int64_t size, double base);

}  // namespace heed::nn
