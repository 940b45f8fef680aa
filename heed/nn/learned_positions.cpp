#include "heed/nn/learned_positions.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <ostream>

#include "heed/nn/attention_positions.h"

namespace heed::nn {

LearnedPositionsImpl::LearnedPositionsImpl(const LearnedPositionsOptions& options)
    : weight_(register_parameter("weight", at::empty({options.length, options.embed_size}))) {
  reset_parameters();
}

void LearnedPositionsImpl::reset_parameters() { torch::nn::init::normal_(weight_, 0, 0.02); }

at::Tensor LearnedPositionsImpl::forward(const at::Tensor& x, const at::Tensor& offset) {
  const int64_t T = x.size(1);
  const bool moved = offset.defined() && offset.numel() > 0;
  const int64_t last = T - 1 + (moved ? offset.max().item<int64_t>() : 0);
  TORCH_CHECK(T == 0 || last < weight_.size(0),
              "[LearnedPositions] x: expected places below length = ", weight_.size(0), ", got ",
              last);
  if (!offset.defined()) return x + weight_.narrow(0, 0, T);
  return x + at::embedding(weight_, places_of(offset, T));
}

void LearnedPositionsImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::LearnedPositions(length=" << weight_.size(0)
         << ", embed_size=" << weight_.size(1) << ")";
}

}  // namespace heed::nn
