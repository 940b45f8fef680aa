#include "heed/nn/sinusoidal_positions.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>

#include <ostream>

#include "heed/nn/attention_positions.h"

namespace heed::nn {

SinusoidalPositionsImpl::SinusoidalPositionsImpl(const SinusoidalPositionsOptions& options)
    : options_(options) {
  TORCH_CHECK(options.embed_size > 0 && options.embed_size % 2 == 0,
              "[SinusoidalPositions] embed_size: expected an even number, got ",
              options.embed_size);
}

at::Tensor SinusoidalPositionsImpl::forward(const at::Tensor& x, const at::Tensor& offset) {
  return x + encode(places_of(offset, x.size(1))).to(x.scalar_type());
}

at::Tensor SinusoidalPositionsImpl::encode(const at::Tensor& places) const {
  const at::Tensor angles = wave_angles(places, options_.embed_size, options_.base);
  return at::stack({angles.sin(), angles.cos()}, -1).flatten(-2);
}

void SinusoidalPositionsImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::SinusoidalPositions(embed_size=" << options_.embed_size
         << ", base=" << options_.base << ")";
}

at::Tensor wave_angles(const at::Tensor& places, int64_t size, double base) {
  const at::Tensor exponents = at::arange(0, size, 2, at::kDouble) / static_cast<double>(size);
  return places.to(at::kDouble).unsqueeze(-1) / at::pow(base, exponents);
}

}  // namespace heed::nn
