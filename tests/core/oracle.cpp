#include "tests/core/oracle.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "tests/core/plain.h"

namespace heed::testing {
namespace {

double largest(const std::vector<double>& values) {
  double most = 0;
  for (double x : values) {
    if (std::isfinite(x)) most = std::max(most, std::abs(x));
  }
  return most;
}

// Infinity where one is NaN and the other is not.
double distance(double x, double y) {
  if (x == y || (std::isnan(x) && std::isnan(y))) return 0;
  const double error = std::abs(x - y);
  return std::isnan(error) ? INFINITY : error;
}

double distance(const std::vector<double>& x, const std::vector<double>& y) {
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) most = std::max(most, distance(x[i], y[i]));
  return most;
}

// Half a unit of the last place, relative.
template <class E>
constexpr double kRounding = std::is_same_v<E, BFloat16>  ? 0x1p-8
                             : std::is_same_v<E, Float16> ? 0x1p-11
                                                          : 0x1p-24;

}  // namespace

Oracle::Oracle(const Case& c) : want_(c) {
  SerialExecutor serial;
  want_.solve(serial);
  severity_ = std::max(1.0, largest(want_.max.values()) / 4);
  // The kernels' tanh is within 5e-7, and so is 1 - tanh^2, however small: gradients of a flat tanh
  // lose digits that a plain computation's, within 1e-7, keep.
  if (want_.has_program() &&
      want_.score_program().program->str().find("tanh(") != std::string::npos) {
    severity_ *= 2;
  }
  const std::vector<Result> wanted = want_.results();
  with_element(c, [&]<class E>(E) {
    for (const PlainResult& plain : plain_solution(Problem<E>(c), want_)) {
      const auto same = [&](const Result& result) { return result.name == plain.name; };
      const auto result = std::find_if(wanted.begin(), wanted.end(), same);
      if (result == wanted.end()) continue;
      const double error = distance(plain.values, result->values);
      const double floor = kRounding<E> * plain.magnitude;
      // A plain computation that is wrong would allow everything.
      if (error > 4 * floor + 2 * allowed(*result)) {
        disagreement_ += plain.name + ": plain computation and reference differ\n";
      }
      rounding_[plain.name] = 2 * error + floor;
    }
  });
}

// Rounding of a sum of n products is about eps * sqrt(n) of its largest terms; n is at most 900
// here, and a few such sums and exponentials follow on one another. 3e-6 of the largest element is
// 25 eps: a wrong index or a lost term is off by 1e-2 at least. Gradients of what all pairs share
// sum up to 17,000 terms, sqrt(17000 / 900) = 4.3 times the noise.
double Oracle::allowed(const Result& want) const {
  const bool shared =
      want.name == "d_weight" || want.name == "d_sinks" || want.name.starts_with("d_table");
  const double relative = severity_ * (shared ? 13e-6 : 3e-6);
  const auto rounding = rounding_.find(want.name);
  return relative * std::max(1.0, largest(want.values)) +
         (rounding == rounding_.end() ? 0 : rounding->second);
}

template <class E>
std::string Oracle::complaints(const Problem<E>& got, Part part) const {
  std::ostringstream all;
  all << disagreement_;
  const std::vector<Result> wanted = want_.results(), gotten = got.results();
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const Result &want = wanted[i], &result = gotten[i];
    if (!result.guards_intact) all << want.name << ": written out of bounds\n";
    if (part == Part::kForward && want.name != "out" && want.name != "lse") continue;
    const double limit = allowed(want);
    std::size_t worst = 0;
    double error = 0;
    for (std::size_t j = 0; j < want.values.size(); ++j) {
      const double here = distance(result.values[j], want.values[j]);
      if (here > error) {
        error = here;
        worst = j;
      }
    }
    if (error <= limit) continue;
    all << want.name << "[" << worst << "]: " << result.values[worst] << " instead of "
        << want.values[worst] << ", off by " << error << " > " << limit << "\n";
  }
  if (part == Part::kAll) all << top_complaints(got);
  return all.str();
}

// Neighbours of nearly equal weight may change places: each key must have its own weight, and the
// weights be the largest.
template <class E>
std::string Oracle::top_complaints(const Problem<E>& got) const {
  constexpr double kNone = 1e-30;  // a weight this small may be nothing in float
  const double allowed = 3e-6 * severity_;
  constexpr int64_t kTop = Problem<E>::kTop;
  const int64_t S = want_.c.shape.S;
  const std::vector<double> weights = want_.weights.values();
  std::ostringstream all;
  for (int64_t row = 0; row < got.rows(); ++row) {
    std::vector<int64_t> seen;
    for (int64_t i = row * kTop; i < (row + 1) * kTop; ++i) {
      const double want = want_.top_weights.data()[i],
                   weight = to_double(got.top_weights.data()[i]);
      const int64_t key = got.top_keys.data()[i];
      const bool none = key == -1 && weight == 0;
      bool right = key >= 0 && key < S && distance(weight, want) <= allowed &&
                   distance(weight, weights[row * S + key]) <= allowed &&
                   std::count(seen.begin(), seen.end(), key) == 0;
      if (want < kNone) right = right || none;
      if (want == 0) right = none;
      if (!right) {
        all << "top " << i % kTop << " of row " << row << ": key " << key << " weight " << weight
            << " instead of key " << want_.top_keys.data()[i] << " weight " << want << "\n";
        return all.str();
      }
      seen.push_back(key);
    }
  }
  return {};
}

template std::string Oracle::complaints(const Problem<float>&, Part) const;
template std::string Oracle::complaints(const Problem<BFloat16>&, Part) const;
template std::string Oracle::complaints(const Problem<Float16>&, Part) const;

}  // namespace heed::testing
