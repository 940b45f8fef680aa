#include "heed/learn/symbols.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/nn/modules/linear.h>

#include <utility>

namespace heed::learn {

// --- The learner -------------------------------------------------------------------------------

struct SymbolLearner::Parts {
  SymbolLearnerOptions options;
  Attend attend;
  at::Tensor query_embedding, key_embedding, value_embedding;  // [symbols,E]
  at::Tensor query_positions, key_positions;                   // [positions,E], maybe undefined
  torch::nn::Linear reading{nullptr};                          // E -> value_symbols

  nn::AttentionOutput look(const Symbols& symbols, nn::Weights weights) const {
    at::Tensor query = at::embedding(query_embedding, symbols.query);  // [B,T,E]
    at::Tensor keys = at::embedding(key_embedding, symbols.keys);      // [B,S,E]
    const at::Tensor values = at::embedding(value_embedding, symbols.values);
    if (options.positions > 0) {
      query = query + query_positions.narrow(0, 0, query.size(1));
      keys = keys + key_positions.narrow(0, 0, keys.size(1));
    }
    return attend(query, keys, values, symbols.lengths, weights);
  }
};

SymbolLearner::SymbolLearner(SymbolLearnerOptions options,
                             std::shared_ptr<torch::nn::Module> mechanism, Attend attend)
    : parts_(std::make_shared<Parts>()) {
  const int64_t E = options.size;
  const auto table = [&](const char* name, int64_t rows) {
    return register_parameter(name, at::randn({rows, E}) * options.spread);
  };
  parts_->query_embedding = table("query_embedding", options.query_symbols);
  parts_->key_embedding = table("key_embedding", options.key_symbols);
  parts_->value_embedding = table("value_embedding", options.value_symbols);
  if (options.positions > 0) {
    parts_->query_positions = table("query_positions", options.positions);
    parts_->key_positions = table("key_positions", options.positions);
  }
  parts_->reading = register_module("reading", torch::nn::Linear(E, options.value_symbols));
  if (mechanism != nullptr) register_module("mechanism", std::move(mechanism));
  parts_->options = std::move(options);
  parts_->attend = std::move(attend);
}

Answers SymbolLearner::answer(int64_t batch, Purpose purpose) {
  const bool judging = purpose == Purpose::kJudging;
  const SymbolLearnerOptions& options = parts_->options;
  const Symbols symbols =
      judging && options.draw_judged ? options.draw_judged(batch) : options.draw(batch);
  const nn::AttentionOutput seen = parts_->look(symbols, weights_for(purpose));
  return {.logits = parts_->reading(seen.output).flatten(0, 1),
          .targets = symbols.answers.flatten(),
          .weights = judging ? seen.weights.flatten(0, 1) : at::Tensor(),
          .planted = symbols.planted.flatten(0, 1)};
}

Alignment SymbolLearner::example() {
  const Symbols symbols = parts_->options.draw(1);
  const at::Tensor weights = parts_->look(symbols, nn::Weights::kReturn).weights[0];  // [T,S]
  const SymbolLearnerOptions& options = parts_->options;
  const auto name = [](const auto& names, const at::Tensor& symbol) {
    const auto number = symbol.item<int64_t>();
    return names ? names(number) : std::to_string(number);
  };
  std::vector<std::string> source, target;
  for (int64_t s = 0; s < symbols.keys.size(1); ++s) {
    source.push_back(name(options.key_name, symbols.keys[0][s]));
    if (options.value_name) {
      source.back() += ":" + name(options.value_name, symbols.values[0][s]);
    }
  }
  for (int64_t t = 0; t < symbols.query.size(1); ++t) {
    target.push_back(name(options.query_name, symbols.query[0][t]));
  }
  return shown(std::move(source), std::move(target), weights, symbols.planted[0]);
}

std::string letter(int64_t symbol) { return std::string(1, static_cast<char>('a' + symbol)); }
std::string capital(int64_t symbol) { return std::string(1, static_cast<char>('A' + symbol)); }
std::string digit(int64_t symbol) { return std::to_string(symbol); }
std::string question(int64_t) { return "?"; }

// --- Draws ---------------------------------------------------------------------------------------

at::Tensor draw_signs(at::IntArrayRef sizes, int64_t signs) {
  return at::randint(signs, sizes, at::kLong);
}

at::Tensor draw_orders(int64_t batch, int64_t n) {
  return at::rand({batch, n}).argsort(/*dim=*/1, /*descending=*/false);
}

at::Tensor draw_words(int64_t batch, int64_t n, int64_t words) {
  return draw_orders(batch, words).narrow(1, 0, n);
}

// --- Tasks ---------------------------------------------------------------------------------------

Symbols ask_at(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
               const at::Tensor& place) {
  return {.query = query,
          .keys = keys,
          .values = values,
          .answers = values.gather(1, place),
          .planted = place.unsqueeze(2).eq(at::arange(keys.size(1)))};
}

namespace {

// Every query t of a row asks for what stands at place[t] (less than 0: at no place, answer 0).
Symbols ask_for_places(const at::Tensor& row, const at::Tensor& place) {
  const int64_t B = row.size(0), S = row.size(1), T = place.size(0);
  const at::Tensor there = place.ge(0);                                          // [T]
  const at::Tensor planted = place.unsqueeze(1).eq(at::arange(S).unsqueeze(0));  // [T,S]
  return {.query = at::zeros({B, T}, at::kLong),
          .keys = row,
          .values = row,
          .answers = row.index_select(1, place.clamp_min(0)) * there,
          .planted = planted.unsqueeze(0).expand({B, T, S})};
}

}  // namespace

Symbols draw_copy(int64_t batch, int64_t length, int64_t symbols) {
  return ask_for_places(draw_signs({batch, length}, symbols), at::arange(length));
}

Symbols draw_reverse(int64_t batch, int64_t length, int64_t symbols) {
  return ask_for_places(draw_signs({batch, length}, symbols), at::arange(length).flip(0));
}

Symbols draw_offset(int64_t batch, int64_t length, int64_t offset, int64_t symbols) {
  return ask_for_places(draw_signs({batch, length}, symbols), at::arange(length) - offset);
}

Symbols draw_dictionary(int64_t batch, int64_t queries, int64_t length, int64_t words,
                        int64_t symbols) {
  TORCH_CHECK(length <= words, "[draw_dictionary] length: expected at most words = ", words,
              ", got ", length);
  const at::Tensor keys = draw_words(batch, length, words);  // [B,S]
  const at::Tensor values = draw_signs({batch, length}, symbols);
  const at::Tensor place = at::randint(length, {batch, queries}, at::kLong);  // [B,T]
  return ask_at(words - 1 - keys.gather(1, place), keys, values, place);
}

Symbols draw_first_of_kind(int64_t batch, int64_t length, int64_t kinds, int64_t symbols) {
  TORCH_CHECK(length >= kinds, "[draw_first_of_kind] length: expected at least kinds = ", kinds,
              ", got ", length);
  const at::Tensor keys = draw_orders(batch, length).remainder(kinds);  // [B,S]
  const at::Tensor values = draw_signs({batch, length}, symbols);
  const at::Tensor query = draw_orders(batch, kinds);                // [B,T]
  const at::Tensor same = query.unsqueeze(2).eq(keys.unsqueeze(1));  // [B,T,S]
  const at::Tensor first = same.logical_and(same.cumsum(2).eq(1));   // [B,T,S]
  return ask_at(query, keys, values, /*place=*/first.to(at::kLong).argmax(2));
}

Symbols draw_marked(int64_t batch, int64_t queries, int64_t length, int64_t symbols) {
  const at::Tensor values = draw_signs({batch, length}, symbols);
  const at::Tensor place =
      at::randint(length, {batch, 1}, at::kLong).expand({batch, queries});  // [B,T]
  const at::Tensor marked = place.narrow(1, 0, 1).eq(at::arange(length));   // [B,S]
  return ask_at(at::zeros({batch, queries}, at::kLong), marked.to(at::kLong), values, place);
}

}  // namespace heed::learn
