// Rotary positions (Su 2021): pair i of a row at place p turns by the angle p f_i, f_i =
// base^(-2i/R), so that products depend on the distance alone; and the ways to stretch them.
#pragma once

#include <torch/nn/pimpl.h>

#include <optional>

#include "heed/nn/attention_positions.h"

namespace heed::nn {

enum class RotaryPairing {
  kHalfSplit,    // i with i + R/2 (GPT-NeoX, Llama)
  kInterleaved,  // 2i with 2i + 1 (RoFormer, GPT-J)
};

// How the angles change so that a longer text stays within what was trained.
struct RotaryScaling {
  enum class Kind {
    kNone,
    kLinear,   // f_i / factor (Chen 2023, position interpolation)
    kDynamic,  // once the text is longer than original_length, base grows with it, "NTK-aware"
               // (bloc97 2023): base ((factor L / original_length) - (factor - 1))^(R / (R - 2));
               // keys in a cache keep the turn that they had when the text was shorter
    kYarn,     // waves that turn more than beta_fast times within original_length stay, those that
               // turn less than beta_slow times are divided by factor, between them a ramp; and
               // rows are multiplied by attention_factor (Peng 2024)
    kLlama3,   // waves shorter than original_length / high_frequency stay, those longer than
               // original_length / low_frequency are divided by factor, between them a blend
               // (Grattafiori 2024)
  };
  Kind kind = Kind::kNone;
  double factor = 1;               // how much longer
  int64_t original_length = 2048;  // of the texts in training
  double beta_fast = 32, beta_slow = 1;
  std::optional<double> attention_factor = std::nullopt;  // none: 0.1 ln(factor) + 1
  double low_frequency = 1, high_frequency = 4;
};

struct RotaryPositionsOptions {
  int64_t head_size;  // D
  int64_t size = 0;   // R, how many of the D turn, the first ones, even; 0 means D
  double base = 10000;
  RotaryPairing pairing = RotaryPairing::kHalfSplit;
  RotaryScaling scaling = {};
};

// No program: the rows turn before the engine.
class RotaryPositionsImpl : public AttentionPositionsImpl {
 public:
  explicit RotaryPositionsImpl(const RotaryPositionsOptions& options);

  at::Tensor rotate(const at::Tensor& x, const at::Tensor& offset = {}) override;

  // f_i [R/2], double, for a text of `length` places (only kDynamic depends on it).
  at::Tensor frequencies(int64_t length) const;

  // What rows are multiplied by: 1 but for kYarn.
  double attention_factor() const;

  void pretty_print(std::ostream& stream) const override;

 private:
  // The pair, as a real number, that turns so often within the original length.
  double pair_of_turns(double turns) const;

  // -f_i for the first of each pair and f_i for the second, [R]: each element becomes cos(p f)
  // times itself and sin(p f) times the other.
  at::Tensor paired(const at::Tensor& frequencies) const;
  at::Tensor paired_frequencies(const at::Tensor& places) const;

  RotaryPositionsOptions options_;
  at::Tensor paired_;  // [R] double; undefined where they depend on the text's length
};
TORCH_MODULE(RotaryPositions);

}  // namespace heed::nn
