// A score program in torch's own operations on whole tensors: what derivatives beyond the first,
// and forward mode, are taken of.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "heed/core/program/program.h"
#include "heed/ops/score_program.h"

namespace heed {

// Of the pairs: tensors that broadcast to [B,H,T,S], in the scores' type; they hold whole numbers.
struct Pairs {
  at::Tensor b, h, t, s;
};

class ProgramFormula {
 public:
  // `real` is the type in which everything is computed.
  ProgramFormula(const TensorProgram& program, at::ScalarType real);

  bool has_mask() const { return program_->mask() >= 0; }
  bool mask_reads_dot() const { return has_mask() && reads_dot(program_->mask()); }

  // bool, and `real`; broadcast to [B,H,T,S]. `dot` may be undefined where it is not read.
  at::Tensor mask(const Pairs& pairs, const at::Tensor& dot) const {
    return evaluate(program_->mask(), pairs, dot);
  }
  at::Tensor score(const Pairs& pairs, const at::Tensor& dot) const {
    return evaluate(program_->score(), pairs, dot);
  }

 private:
  bool reads_dot(int node) const { return program_->graph().reads_dot(node); }
  at::Tensor evaluate(int root, const Pairs& pairs, const at::Tensor& dot) const;

  std::shared_ptr<const program::Program> program_;
  at::ScalarType real_;
  std::vector<at::Tensor> tables_;  // bool, or `real`
};

}  // namespace heed
