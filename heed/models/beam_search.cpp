#include "heed/models/beam_search.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace heed::models {
namespace {

struct Partial {
  std::vector<int64_t> tokens;
  std::vector<std::vector<float>> weights;
  double log_probability = 0;
};

// One sentence's search: its open continuations and those that ended.
struct Search {
  std::vector<Partial> open;  // at most `beam`
  std::vector<Hypothesis> ended;
  bool done = false;
};

struct Candidate {
  double log_probability;
  size_t parent;  // in Search::open
  int64_t token;
};

// What the decoder said of all rows: the most probable tokens of each, and where it looked.
struct Predictions {
  at::Tensor values, tokens;  // [N,wanted]
  at::Tensor weights;         // [N,S] or undefined
};

std::vector<float> row_of(const at::Tensor& matrix, int64_t row) {
  if (!matrix.defined()) return {};
  const float* begin = matrix.const_data_ptr<float>() + row * matrix.size(1);
  return {begin, begin + matrix.size(1)};
}

double normalised(double log_probability, size_t length, double alpha) {
  return log_probability / std::pow((5.0 + static_cast<double>(length)) / 6.0, alpha);
}

void end(Search& search, Partial partial, const BeamOptions& options, size_t length) {
  const double score = normalised(partial.log_probability, length, options.length_penalty);
  search.ended.push_back({std::move(partial.tokens), std::move(partial.weights), score});
}

// Enough has ended when the best open continuation, if it ended now, would not enter the n best.
bool finished(const Search& search, const BeamOptions& options) {
  if (search.open.empty()) return true;
  if (options.beam == 1) return !search.ended.empty();
  if (static_cast<int64_t>(search.ended.size()) < options.beam) return false;
  std::vector<double> scores;
  for (const Hypothesis& hypothesis : search.ended) scores.push_back(hypothesis.score);
  std::sort(scores.rbegin(), scores.rend());
  const double bar = scores[static_cast<size_t>(options.n_best - 1)];
  const Partial& best = search.open.front();
  return normalised(best.log_probability, best.tokens.size() + 1, options.length_penalty) <= bar;
}

Predictions predict(StepDecoder& decoder, const std::vector<int64_t>& tokens, const Marks& marks,
                    int64_t beam) {
  auto [log_probabilities, weights] = decoder.step(at::tensor(tokens, at::kLong));
  for (const int64_t id : marks.never) {
    log_probabilities.select(1, id).fill_(-std::numeric_limits<float>::infinity());
  }
  // 2K candidates a row leave K that go on, even if K of them end.
  const int64_t wanted = std::min(2 * beam, log_probabilities.size(1));
  const auto [values, ids] = at::topk(log_probabilities, wanted, 1);
  return {values.contiguous(), ids.contiguous(),
          weights.defined() ? weights.contiguous() : weights};
}

// All continuations of a sentence's open rows, which begin at `first_row`, the best first.
std::vector<Candidate> candidates_of(const Search& search, const Predictions& predictions,
                                     int64_t first_row) {
  const int64_t wanted = predictions.values.size(1);
  std::vector<Candidate> candidates;
  for (size_t parent = 0; parent < search.open.size(); ++parent) {
    const int64_t begin = (first_row + static_cast<int64_t>(parent)) * wanted;
    for (int64_t i = begin; i < begin + wanted; ++i) {
      const float value = predictions.values.const_data_ptr<float>()[i];
      if (!std::isfinite(value)) continue;
      candidates.push_back({search.open[parent].log_probability + static_cast<double>(value),
                            parent, predictions.tokens.const_data_ptr<int64_t>()[i]});
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return a.log_probability > b.log_probability;
  });
  return candidates;
}

// Moves one sentence on by a token. Returns the decoder's row behind each continuation left open.
std::vector<int64_t> extend(Search& search, const Predictions& predictions, int64_t first_row,
                            size_t length, const Marks& marks, const BeamOptions& options) {
  const auto beam = static_cast<size_t>(options.beam);
  const bool last = static_cast<int64_t>(length) == options.max_length;
  const std::vector<Candidate> candidates = candidates_of(search, predictions, first_row);
  std::vector<Partial> open;
  std::vector<int64_t> rows;
  for (size_t rank = 0; rank < candidates.size() && open.size() < beam; ++rank) {
    const Candidate& candidate = candidates[rank];
    const bool ends = candidate.token == marks.end;
    // An end far down the list would not have entered the beam.
    if ((ends || last) && rank >= beam) continue;
    Partial partial = search.open[candidate.parent];
    const int64_t row = first_row + static_cast<int64_t>(candidate.parent);
    partial.log_probability = candidate.log_probability;
    partial.weights.push_back(row_of(predictions.weights, row));
    if (!ends) partial.tokens.push_back(candidate.token);
    if (ends || last) {
      end(search, std::move(partial), options, length);
    } else {
      open.push_back(std::move(partial));
      rows.push_back(row);
    }
  }
  search.open = std::move(open);
  search.done = finished(search, options);
  return search.done ? std::vector<int64_t>{} : rows;
}

// The n best that ended, the best first.
std::vector<Hypothesis> best_of(Search search, const BeamOptions& options) {
  std::stable_sort(search.ended.begin(), search.ended.end(),
                   [](const auto& a, const auto& b) { return a.score > b.score; });
  const auto n_best = std::min(search.ended.size(), static_cast<size_t>(options.n_best));
  return {std::make_move_iterator(search.ended.begin()),
          std::make_move_iterator(search.ended.begin() + static_cast<std::ptrdiff_t>(n_best))};
}

}  // namespace

std::vector<std::vector<Hypothesis>> beam_search(StepDecoder& decoder, int64_t sentences,
                                                 const Marks& marks, const BeamOptions& options) {
  std::vector<Search> searches(static_cast<size_t>(sentences));
  for (Search& search : searches) search.open.resize(1);
  std::vector<int64_t> tokens(static_cast<size_t>(sentences), marks.begin);  // [N]
  for (int64_t length = 1; !tokens.empty() && length <= options.max_length; ++length) {
    const Predictions predictions = predict(decoder, tokens, marks, options.beam);
    std::vector<int64_t> rows;
    tokens.clear();
    int64_t first_row = 0;
    for (Search& search : searches) {
      if (search.done) continue;
      const auto width = static_cast<int64_t>(search.open.size());
      const std::vector<int64_t> kept =
          extend(search, predictions, first_row, static_cast<size_t>(length), marks, options);
      for (size_t i = 0; i < kept.size(); ++i) {
        rows.push_back(kept[i]);
        tokens.push_back(search.open[i].tokens.back());
      }
      first_row += width;
    }
    if (!rows.empty()) decoder.select(at::tensor(rows, at::kLong));
  }
  std::vector<std::vector<Hypothesis>> results;
  for (Search& search : searches) results.push_back(best_of(std::move(search), options));
  return results;
}

}  // namespace heed::models
