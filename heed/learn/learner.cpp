// How examples are laid out for heat maps.
#include "heed/learn/learner.h"

#include <utility>

#include "heed/learn/symbols.h"

namespace heed::learn {

Alignment shown(std::vector<std::string> source, std::vector<std::string> target,
                const at::Tensor& weights, const at::Tensor& planted) {
  for (auto* side : {&source, &target}) {
    for (std::string& label : *side) label.insert(0, "▁");  // each is a word, none goes on
  }
  Alignment alignment{.source = std::move(source), .target = std::move(target)};
  const at::Tensor w = weights.detach().to(at::kFloat).contiguous();  // [T,S]
  const at::Tensor p = planted.to(at::kBool).contiguous();            // [T,S]
  alignment.weights.assign(w.data_ptr<float>(), w.data_ptr<float>() + w.numel());
  alignment.planted.assign(p.data_ptr<bool>(), p.data_ptr<bool>() + p.numel());
  return alignment;
}

Alignment shown_maps(const at::Tensor& weights, const at::Tensor& planted) {
  const int64_t n = weights.size(0), rows = weights.size(1), columns = weights.size(2);
  const auto beside = [](const at::Tensor& maps) { return maps.transpose(0, 1).flatten(1); };
  const auto across = [&](int64_t i) { return letter(i / columns) + digit(i % columns); };
  return shown(labels(n * columns, across), labels(rows, digit), beside(weights), beside(planted));
}

std::vector<std::string> labels(int64_t count, const std::function<std::string(int64_t)>& name) {
  std::vector<std::string> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(name(i));
  return result;
}

}  // namespace heed::learn
