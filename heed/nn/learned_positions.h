// Learnt positions (Gehring 2017): x[t] + weight[t], one vector a place, up to a length.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace heed::nn {

struct LearnedPositionsOptions {
  int64_t length;      // the number of places
  int64_t embed_size;  // E
};

class LearnedPositionsImpl : public torch::nn::Module {
 public:
  explicit LearnedPositionsImpl(const LearnedPositionsOptions& options);

  // Normal with deviation 0.02 (Devlin 2019).
  void reset_parameters();

  // x [B,T,E], offset [B] int64, the place of each element's first row (undefined: 0) -> [B,T,E].
  at::Tensor forward(const at::Tensor& x, const at::Tensor& offset = {});

  void pretty_print(std::ostream& stream) const override;

 private:
  at::Tensor weight_;  // [length,E]
};
TORCH_MODULE(LearnedPositions);

}  // namespace heed::nn
