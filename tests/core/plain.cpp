#include "tests/core/plain.h"

#include <algorithm>
#include <cmath>

#include "heed/core/dropout.h"

namespace heed::testing {
namespace {

// Sums of terms, and of their absolute values.
struct Sums {
  std::vector<float> values, magnitudes;
  explicit Sums(int64_t n) : values(n), magnitudes(n) {}
  void add(int64_t i, float term, float magnitude) {
    values[i] += term;
    magnitudes[i] += magnitude;
  }
  void add(int64_t i, float term) { add(i, term, std::abs(term)); }
};

template <class E>
float rounded(float x) {
  return static_cast<float>(to_double(from_double<E>(x)));
}

template <class E>
class Plain {
 public:
  Plain(const Problem<E>& problem, const Problem<double>& want)
      : p_(problem),
        want_(want),
        shape_(problem.c.shape),
        inputs_(problem.inputs()),
        out_(p_.out.size()),
        d_q_(p_.d_q.size()),
        d_k_(p_.d_k.size()),
        d_v_(p_.d_v.size()),
        d_weight_(p_.d_weight.size()),
        d_sinks_(p_.d_sinks.size()) {
    for (const auto& table : p_.d_tables) d_tables_.emplace_back(table.size());
  }

  std::vector<PlainResult> solve() {
    for (b_ = 0; b_ < shape_.B; ++b_) {
      const Lengths lengths = lengths_of(inputs_, b_);
      t_first_ = p_.c.packed ? p_.q_offsets[b_] : 0;
      s_first_ = p_.c.packed ? p_.k_offsets[b_] : 0;
      for (h_ = 0; h_ < shape_.H; ++h_) {
        for (t_ = 0; t_ < lengths.T; ++t_) row();
      }
    }
    std::vector<PlainResult> all = {{"out", to_type(out_), most(out_)},
                                    {"d_q", to_type(d_q_), most(d_q_)},
                                    {"d_k", to_type(d_k_), most(d_k_)},
                                    {"d_v", to_type(d_v_), most(d_v_)}};
    const auto add = [&](const std::string& name, const Sums& sums) {
      all.push_back({name, {sums.values.begin(), sums.values.end()}, most(sums)});
    };
    add("d_weight", d_weight_);
    add("d_sinks", d_sinks_);
    for (std::size_t i = 0; i < d_tables_.size(); ++i) {
      add("d_table" + std::to_string(i), d_tables_[i]);
    }
    return all;
  }

 private:
  static std::vector<double> to_type(const Sums& sums) {
    std::vector<double> all;
    for (float x : sums.values) all.push_back(rounded<E>(x));
    return all;
  }
  static double most(const Sums& sums) {
    const auto most = std::max_element(sums.magnitudes.begin(), sums.magnitudes.end());
    return most == sums.magnitudes.end() ? 0 : *most;
  }

  // Where rows begin in a dense [B,H,T,D] (or [1,H,total,D]) array.
  int64_t query_offset(const Tensor<E>& tensor) const {
    return ((element() * shape_.H + h_) * tensor.size(2) + t_first_ + t_) * tensor.size(3);
  }
  int64_t key_offset(const Tensor<E>& tensor, int64_t s) const {
    const int64_t head = element() * shape_.Hkv + kv_head();
    return (head * tensor.size(2) + s_first_ + s) * tensor.size(3);
  }
  int64_t element() const { return p_.c.packed ? 0 : b_; }
  int64_t kv_head() const { return h_ / shape_.group(); }
  const E* query_row(const Tensor<E>& tensor) const {
    return tensor.view().row(b_, h_, t_first_ + t_);
  }
  const E* key_row(const Tensor<E>& tensor, int64_t s) const {
    return tensor.view().row(b_, kv_head(), s_first_ + s);
  }
  static float at(const E* row, int64_t d) { return static_cast<float>(to_double(row[d])); }

  float kept(int64_t s) const {
    if (p_.c.dropout == 0) return 1;
    const uint64_t key = dropout_key(inputs_.dropout.seed, b_, h_);
    const uint32_t bits = dropout_bits(dropout_query_hash(key, t_), dropout_key_hash(key, s));
    return bits < dropout_threshold(p_.c.dropout)
               ? 0
               : static_cast<float>(dropout_factor(p_.c.dropout));
  }

  void row() {
    const double* weights = want_.weights.view().row(b_, h_, t_first_ + t_);
    const E* d_out = query_row(p_.d_out);
    const int64_t Dv = shape_.Dv, out_row = query_offset(p_.out);
    for (int64_t s = 0; s < shape_.S; ++s) {
      if (weights[s] == 0) continue;
      const float p = rounded<E>(static_cast<float>(weights[s]) * kept(s));
      if (p == 0) continue;
      const E* v = key_row(p_.v, s);
      for (int64_t d = 0; d < Dv; ++d) {
        out_.add(out_row + d, p * at(v, d));
        d_v_.add(key_offset(p_.v, s) + d, p * at(d_out, d));
      }
    }
    // delta, and what rounding it is relative to.
    const auto d_lse = static_cast<float>(to_double(p_.d_lse.data()[p_.row(b_, h_, t_)]));
    float delta = -d_lse, delta_magnitude = std::abs(d_lse);
    for (int64_t d = 0; d < Dv; ++d) {
      const float term = at(d_out, d) * rounded<E>(out_.values[out_row + d]);
      delta += term;
      delta_magnitude += std::abs(term);
    }
    if (p_.c.sinks) sink(delta, delta_magnitude);
    for (int64_t s = 0; s < shape_.S; ++s) {
      if (weights[s] != 0) pair(s, static_cast<float>(weights[s]), delta, delta_magnitude);
    }
  }

  void sink(float delta, float delta_magnitude) {
    const double lse = want_.lse.data()[p_.row(b_, h_, t_)];
    const auto p = static_cast<float>(std::exp(to_double(p_.sinks.data()[h_]) - lse));
    d_sinks_.add(h_, -p * delta, p * delta_magnitude);
  }

  void pair(int64_t s, float p, float delta, float delta_magnitude) {
    const E *d_out = query_row(p_.d_out), *v = key_row(p_.v, s);
    float d_p = 0;
    for (int64_t d = 0; d < shape_.Dv; ++d) d_p += at(d_out, d) * at(v, d);
    d_p = rounded<E>(d_p) * kept(s);
    float d_dot = rounded<E>(p * (d_p - delta));
    float magnitude = p * (std::abs(d_p) + delta_magnitude);
    if (p_.has_program()) {
      const program::Program& program = p_.program()->program();
      program::BoundProgram::Pair exact = {b_, h_, t_, s, dot(s), d_dot};
      program::BoundProgram::Pair largest = exact;
      largest.gradient = magnitude;  // derivatives are proportional to it
      for (const program::TableGradient& part : program.table_gradients()) {
        const int table = program.graph()[part.lookup].table;
        if (p_.d_tables[table].size() == 0) continue;
        const double term = p_.program()->value(part.value, exact);
        const double bound = std::abs(p_.program()->value(part.value, largest));
        d_tables_[table].add(p_.program()->offset(part.lookup, exact), static_cast<float>(term),
                             static_cast<float>(bound));
      }
      if (program.d_dot() < 0) return;
      d_dot = rounded<E>(static_cast<float>(p_.program()->value(program.d_dot(), exact)));
      magnitude = static_cast<float>(std::abs(p_.program()->value(program.d_dot(), largest)));
    }
    product(s, d_dot * inputs_.scale, magnitude * std::abs(inputs_.scale));
  }

  double dot(int64_t s) const {
    if (p_.c.score == Score::kNone) return 0;
    const E *q = query_row(p_.q), *k = key_row(p_.k, s);
    double sum = 0;
    for (int64_t d = 0; d < shape_.D; ++d) {
      sum += p_.c.score == Score::kDot ? to_double(q[d]) * to_double(k[d])
                                       : to_double(inputs_.weight[h_ * shape_.D + d]) *
                                             std::tanh(to_double(q[d]) + to_double(k[d]));
    }
    return sum * inputs_.scale;
  }

  // Adds the part of the pair (t, s), whose product has the gradient g.
  void product(int64_t s, float g, float magnitude) {
    if (p_.c.score == Score::kNone) return;
    const E *q = query_row(p_.q), *k = key_row(p_.k, s);
    for (int64_t d = 0; d < shape_.D; ++d) {
      const int64_t to_q = query_offset(p_.q) + d, to_k = key_offset(p_.k, s) + d;
      if (p_.c.score == Score::kDot) {
        d_q_.add(to_q, g * at(k, d), magnitude * std::abs(at(k, d)));
        d_k_.add(to_k, g * at(q, d), magnitude * std::abs(at(q, d)));
      } else {
        const float u = rounded<E>(std::tanh(at(q, d) + at(k, d)));
        const float slope = at(inputs_.weight, h_ * shape_.D + d) * (1 - u * u);
        const float most = magnitude * std::abs(at(inputs_.weight, h_ * shape_.D + d));
        d_q_.add(to_q, g * slope, most);
        d_k_.add(to_k, g * slope, most);
        d_weight_.add(h_ * shape_.D + d, g * u, magnitude * std::abs(u));
      }
    }
  }

  const Problem<E>& p_;
  const Problem<double>& want_;
  const Shape shape_;
  const AttentionInputs<E> inputs_;
  int64_t b_ = 0, h_ = 0, t_ = 0, t_first_ = 0, s_first_ = 0;
  Sums out_, d_q_, d_k_, d_v_, d_weight_, d_sinks_;
  std::vector<Sums> d_tables_;
};

}  // namespace

template <class E>
std::vector<PlainResult> plain_solution(const Problem<E>& problem, const Problem<double>& want) {
  return Plain<E>(problem, want).solve();
}

template std::vector<PlainResult> plain_solution(const Problem<float>&, const Problem<double>&);
template std::vector<PlainResult> plain_solution(const Problem<BFloat16>&, const Problem<double>&);
template std::vector<PlainResult> plain_solution(const Problem<Float16>&, const Problem<double>&);

}  // namespace heed::testing
