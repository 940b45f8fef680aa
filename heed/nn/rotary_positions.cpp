#include "heed/nn/rotary_positions.h"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <ostream>

namespace heed::nn {

RotaryPositionsImpl::RotaryPositionsImpl(const RotaryPositionsOptions& options)
    : options_(options) {
  if (options_.size == 0) options_.size = options_.head_size;
  TORCH_CHECK(options_.size > 0 && options_.size % 2 == 0 && options_.size <= options_.head_size,
              "[RotaryPositions] size: expected an even number up to head_size = ",
              options_.head_size, ", got ", options_.size);
  const RotaryScaling& scaling = options_.scaling;
  TORCH_CHECK(scaling.factor >= 1, "[RotaryPositions] factor: expected at least 1, got ",
              scaling.factor);
  TORCH_CHECK(scaling.kind != RotaryScaling::Kind::kDynamic || options_.size > 2,
              "[RotaryPositions] size: expected at least 4 where the base grows, got ",
              options_.size);
  TORCH_CHECK(scaling.low_frequency < scaling.high_frequency,
              "[RotaryPositions] low_frequency: expected below high_frequency = ",
              scaling.high_frequency, ", got ", scaling.low_frequency);
  if (scaling.kind != RotaryScaling::Kind::kDynamic) paired_ = paired(frequencies(0));
}

at::Tensor RotaryPositionsImpl::rotate(const at::Tensor& x, const at::Tensor& offset) {
  const at::Tensor places = places_of(offset, x.size(2));  // [T] or [B,T]
  // In double: float32 has lost three digits of the angle at place 10^4.
  at::Tensor angles = places.to(at::kDouble).unsqueeze(-1) * paired_frequencies(places);
  if (offset.defined()) angles = angles.unsqueeze(1);  // [B,1,T,R]
  at::Tensor cos = angles.cos(), sin = angles.sin();
  if (const double factor = attention_factor(); factor != 1) {
    cos = cos * factor;
    sin = sin * factor;
  }
  cos = cos.to(x.scalar_type());
  sin = sin.to(x.scalar_type());
  const int64_t R = options_.size, rest = x.size(-1) - R;
  const at::Tensor turning = rest == 0 ? x : x.narrow(-1, 0, R);
  const at::Tensor other = options_.pairing == RotaryPairing::kHalfSplit
                               ? turning.roll(R / 2, -1)
                               : turning.unflatten(-1, {R / 2, 2}).flip(-1).flatten(-2);
  const at::Tensor turned = at::addcmul(turning * cos, other, sin);
  return rest == 0 ? turned : at::cat({turned, x.narrow(-1, R, rest)}, -1);
}

at::Tensor RotaryPositionsImpl::paired_frequencies(const at::Tensor& places) const {
  if (paired_.defined()) return paired_;
  return paired(frequencies(places.numel() > 0 ? places.max().item<int64_t>() + 1 : 0));
}

at::Tensor RotaryPositionsImpl::paired(const at::Tensor& frequencies) const {
  if (options_.pairing == RotaryPairing::kHalfSplit) return at::cat({-frequencies, frequencies});
  return at::stack({-frequencies, frequencies}, -1).flatten();
}

at::Tensor RotaryPositionsImpl::frequencies(int64_t length) const {
  const double R = static_cast<double>(options_.size);
  const RotaryScaling& scaling = options_.scaling;
  const double original = static_cast<double>(scaling.original_length);
  const at::Tensor exponents = at::arange(0, options_.size, 2, at::kDouble) / R;
  const at::Tensor plain = at::pow(options_.base, -exponents);
  at::Tensor stretched;  // [R/2] in [0, 1]: how much of a wave is divided by the factor
  switch (scaling.kind) {
    case RotaryScaling::Kind::kNone:
      return plain;
    case RotaryScaling::Kind::kLinear:
      return plain / scaling.factor;
    case RotaryScaling::Kind::kDynamic: {
      const double longer = std::max(static_cast<double>(length) / original, 1.0);
      const double growth = scaling.factor * longer - (scaling.factor - 1);
      return plain * at::pow(growth, exponents * (-R / (R - 2)));
    }
    case RotaryScaling::Kind::kYarn: {
      const double fast = std::max(std::floor(pair_of_turns(scaling.beta_fast)), 0.0);
      const double slow = std::min(std::ceil(pair_of_turns(scaling.beta_slow)), R - 1);
      const at::Tensor pairs = at::arange(options_.size / 2, at::kDouble);
      stretched = ((pairs - fast) / std::max(slow - fast, 1e-3)).clamp(0, 1);
      break;
    }
    case RotaryScaling::Kind::kLlama3: {
      const at::Tensor turns = plain * (original / (2 * std::numbers::pi));
      const double low = scaling.low_frequency, high = scaling.high_frequency;
      stretched = 1 - ((turns - low) / (high - low)).clamp(0, 1);
      break;
    }
  }
  return plain * (1 - stretched) + plain / scaling.factor * stretched;
}

double RotaryPositionsImpl::attention_factor() const {
  const RotaryScaling& scaling = options_.scaling;
  if (scaling.kind != RotaryScaling::Kind::kYarn) return 1;
  if (scaling.attention_factor) return *scaling.attention_factor;
  return scaling.factor > 1 ? 0.1 * std::log(scaling.factor) + 1 : 1;
}

double RotaryPositionsImpl::pair_of_turns(double turns) const {
  const double wave =
      static_cast<double>(options_.scaling.original_length) / (2 * std::numbers::pi * turns);
  return static_cast<double>(options_.size) / 2 * std::log(wave) / std::log(options_.base);
}

void RotaryPositionsImpl::pretty_print(std::ostream& stream) const {
  constexpr const char* kKinds[] = {"none", "linear", "dynamic", "yarn", "llama3"};
  stream << "heed::nn::RotaryPositions(size=" << options_.size << ", base=" << options_.base
         << ", pairing="
         << (options_.pairing == RotaryPairing::kHalfSplit ? "half_split" : "interleaved")
         << ", scaling=" << kKinds[static_cast<size_t>(options_.scaling.kind)] << ")";
}

}  // namespace heed::nn
