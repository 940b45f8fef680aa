#include "heed/nn/t5_bias.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <cmath>
#include <ostream>

#include "heed/nn/heads.h"
#include "heed/ops/score_program.h"

namespace heed::nn {

T5BiasImpl::T5BiasImpl(const T5BiasOptions& options)
    : options_(options),
      bias_(register_parameter("bias", at::empty({options.buckets, options.heads}))) {
  const int64_t exact = options.buckets / (options.bidirectional ? 4 : 2);
  TORCH_CHECK(exact > 0 && options.max_distance > exact,
              "[T5Bias] buckets, max_distance: expected at least one exact bucket a side and a "
              "distance above ",
              exact, ", got ", options.buckets, ", ", options.max_distance);
  buckets_ = buckets_of(at::arange(-options.max_distance, options.max_distance + 1, at::kLong));
  reset_parameters();
}

void T5BiasImpl::reset_parameters() { torch::nn::init::zeros_(bias_); }

at::Tensor T5BiasImpl::buckets_of(const at::Tensor& ahead) const {
  const int64_t buckets = options_.bidirectional ? options_.buckets / 2 : options_.buckets;
  const at::Tensor distance = options_.bidirectional ? ahead.abs() : (-ahead).clamp_min(0);
  const int64_t exact = buckets / 2;
  const double reach = std::log(static_cast<double>(options_.max_distance) / exact);
  const double growth = static_cast<double>(buckets - exact) / reach;
  // Distances at a bucket's edge: a little more than what rounding may take away.
  const at::Tensor steps = (distance.to(at::kDouble) / exact).log() * growth + 1e-9;
  const at::Tensor far = steps.clamp(0, static_cast<double>(buckets)).to(at::kLong) + exact;
  const at::Tensor bucket = at::where(distance < exact, distance, far.clamp_max(buckets - 1));
  return options_.bidirectional ? bucket + (ahead > 0) * buckets : bucket;
}

program::Expression T5BiasImpl::score_mod(const program::Expression& score, AttentionHeads& heads) {
  const int64_t far = options_.max_distance;
  const program::Table bias = table(bias_.index_select(0, buckets_));  // [2 far + 1,H]
  const program::Expression ahead = program::s() - place_of(heads.offset);
  return score + bias.at({min(max(ahead, -far), far) + far, program::h()});
}

void T5BiasImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::T5Bias(heads=" << options_.heads << ", buckets=" << options_.buckets
         << ", max_distance=" << options_.max_distance
         << ", bidirectional=" << bool_name(options_.bidirectional) << ")";
}

}  // namespace heed::nn
