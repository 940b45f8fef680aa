// How a lesson puts its symbols to a mechanism.
#pragma once

#include <memory>
#include <utility>

#include "heed/learn/symbols.h"

namespace heed::learn {

// Weights [B,H,T,S] become the first head's [B,T,S].
inline nn::AttentionOutput first_head(nn::AttentionOutput result) {
  if (result.weights.defined() && result.weights.dim() == 4) {
    result.weights = result.weights.select(1, 0);
  }
  return result;
}

// Of a mechanism that is called with query, keys, values, lengths and weights.
template <class Mechanism>
Attend ask(const Mechanism& mechanism) {
  return [mechanism](const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                     const at::Tensor& lengths, nn::Weights weights) {
    return first_head(mechanism.ptr()->forward(query, keys, values, lengths, weights));
  };
}

// Of one that makes keys of a memory by a projection of its own.
template <class Mechanism>
Attend ask_projected(const Mechanism& mechanism) {
  return [mechanism](const at::Tensor& query, const at::Tensor& memory, const at::Tensor& values,
                     const at::Tensor& lengths, nn::Weights weights) {
    const auto module = mechanism.ptr();
    return module->forward(query, module->keys(memory), values, lengths, weights);
  };
}

template <class Mechanism>
std::shared_ptr<Learner> symbol_learner(SymbolLearnerOptions task, const Mechanism& mechanism,
                                        Attend attend) {
  return std::make_shared<SymbolLearner>(std::move(task), mechanism.ptr(), std::move(attend));
}

template <class Mechanism>
std::shared_ptr<Learner> symbol_learner(SymbolLearnerOptions task, const Mechanism& mechanism) {
  return symbol_learner(std::move(task), mechanism, ask(mechanism));
}

}  // namespace heed::learn
