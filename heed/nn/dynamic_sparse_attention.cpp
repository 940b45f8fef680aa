#include "heed/nn/dynamic_sparse_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <torch/nn/init.h>

#include <limits>
#include <tuple>
#include <vector>

#include "heed/nn/heads.h"

namespace heed::nn {
namespace {

// Up to so many keys for each round, one sweep over all of them costs less than sorting: of H4 D64,
// forward and backward on one core, the two met at 1100 keys for two rounds, at 2000 for four.
constexpr int64_t kSweptKeys = 512;

// x [B,H,T,D], order [B,H,T] -> x[b, h, order[b, h, t]].
at::Tensor rows_in_order(const at::Tensor& x, const at::Tensor& order) {
  return x.gather(2, order.unsqueeze(-1).expand({-1, -1, -1, x.size(-1)}));
}

struct Hashed {
  at::Tensor rows;     // [B,H,T,D]
  at::Tensor buckets;  // [B,rounds,H,T]
};

// Rows sorted by their bucket in round n, so that keys of other buckets lie in blocks that are
// never read, with the buckets of rounds 0 to n and the places that they came from [B,H,T].
std::tuple<Hashed, at::Tensor> sorted_by_bucket(const Hashed& x, int64_t n) {
  const at::Tensor order = at::argsort(x.buckets.select(1, n), /*stable=*/true, /*dim=*/-1);
  const at::Tensor buckets =
      x.buckets.narrow(1, 0, n + 1).gather(-1, order.unsqueeze(1).expand({-1, n + 1, -1, -1}));
  return {{.rows = rows_in_order(x.rows, order), .buckets = buckets}, order};
}

program::Expression bucket_of_query(const at::Tensor& buckets, int64_t n) {
  return table(buckets).at({program::b(), n, program::h(), program::t()});
}

program::Expression bucket_of_key(const at::Tensor& buckets, int64_t n) {
  return table(buckets).at({program::b(), n, program::h(), program::s()});
}

// out [B,H,T,Dv] and lse [B,H,T] over the pairs that meet in round n for the first time: what is
// masked here has been counted by an earlier round, so that the rounds are parts of one softmax.
std::tuple<at::Tensor, at::Tensor> attend_in_round(const Hashed& queries, const Hashed& keys,
                                                   const at::Tensor& values, int64_t n, bool causal,
                                                   double dropout) {
  const auto [q, t_of] = sorted_by_bucket(queries, n);
  const auto [k, s_of] = sorted_by_bucket(keys, n);
  using namespace program;
  Expression meet = bucket_of_query(q.buckets, n) == bucket_of_key(k.buckets, n);
  for (int64_t earlier = 0; earlier < n; ++earlier) {
    meet = meet && bucket_of_query(q.buckets, earlier) != bucket_of_key(k.buckets, earlier);
  }
  if (causal) meet = meet && table(s_of).at({b(), h(), s()}) <= table(t_of).at({b(), h(), t()});
  const AttentionOptions options{.program = ScoreProgram::masked(meet), .dropout_p = dropout};
  const auto [out, lse] = attention_with_lse(q.rows, k.rows, rows_in_order(values, s_of), options);
  const at::Tensor back = at::argsort(t_of, int64_t{-1});
  return {rows_in_order(out, back), lse.gather(-1, back)};
}

// [B,H,T,Dv]: the rounds put together by their log-sum-exps.
at::Tensor attend_in_rounds(const Hashed& queries, const Hashed& keys, const at::Tensor& values,
                            int64_t rounds, bool causal, double dropout) {
  std::vector<at::Tensor> outs, lses;
  for (int64_t n = 0; n < rounds; ++n) {
    const auto [out, lse] = attend_in_round(queries, keys, values, n, causal, dropout);
    outs.push_back(out);
    lses.push_back(lse);
  }
  // Finite where no key was met, so that rows without any come out as 0 and not NaN.
  const at::Tensor lse = at::stack(lses);  // [rounds,B,H,T]
  const at::Tensor shares =
      at::softmax(lse.masked_fill(lse.isneginf(), std::numeric_limits<float>::lowest()), 0);
  at::Tensor mixed = outs[0] * shares[0].unsqueeze(-1).to(outs[0].scalar_type());
  for (int64_t n = 1; n < rounds; ++n) {
    mixed = mixed + outs[n] * shares[n].unsqueeze(-1).to(outs[n].scalar_type());
  }
  return mixed;
}

}  // namespace

DynamicSparseAttentionImpl::DynamicSparseAttentionImpl(const DynamicSparseAttentionOptions& options)
    : options_(options) {
  check_heads("DynamicSparseAttention", options.heads);
  TORCH_CHECK(options.buckets > 0 && options.buckets % 2 == 0,
              "[DynamicSparseAttention] buckets: expected an even number, got ", options.buckets);
  TORCH_CHECK(options.rounds > 0, "[DynamicSparseAttention] rounds: expected at least 1, got ",
              options.rounds);
  rotations_ = register_buffer("rotations", at::empty({options.rounds, options.heads,
                                                       options.head_size, options.buckets / 2}));
  reset_parameters();
}

void DynamicSparseAttentionImpl::reset_parameters() { torch::nn::init::normal_(rotations_); }

at::Tensor DynamicSparseAttentionImpl::buckets_of(const at::Tensor& x) const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> rounds;
  for (const at::Tensor& rotation : rotations_.unbind(0)) {
    const at::Tensor y = at::matmul(x, rotation);  // [B,H,T,buckets / 2]
    rounds.push_back(at::cat({y, -y}, -1).argmax(-1));
  }
  return at::stack(rounds, 1);
}

AttentionOutput DynamicSparseAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                                    const at::Tensor& values,
                                                    const at::Tensor& lengths, Weights weights) {
  const int64_t H = options_.heads;
  Hashed q{.rows = heads_of(query, H)}, k{.rows = heads_of(keys, H)};
  const at::Tensor v = heads_of(values, H);
  q.buckets = buckets_of(q.rows);
  k.buckets = buckets_of(k.rows);
  if (lengths.defined()) {
    const at::Tensor beyond = keys_beyond(lengths, keys.size(1)).unsqueeze(1).unsqueeze(1);
    k.buckets = k.buckets.masked_fill(beyond, -1);  // a bucket without queries
  }
  program::Expression met = bucket_of_query(q.buckets, 0) == bucket_of_key(k.buckets, 0);
  for (int64_t n = 1; n < options_.rounds; ++n) {
    met = met || bucket_of_query(q.buckets, n) == bucket_of_key(k.buckets, n);
  }
  const AttentionOptions options{.program = program::ScoreProgram::masked(met),
                                 .causal = options_.causal ? Causal::kTopLeft : Causal::kNone,
                                 .dropout_p = is_training() ? options_.dropout : 0};
  const bool sorted = keys.size(1) > kSweptKeys * options_.rounds;
  AttentionOutput result;
  result.output = join_heads(
      sorted ? attend_in_rounds(q, k, v, options_.rounds, options_.causal, options.dropout_p)
             : attention(q.rows, k.rows, v, options));
  if (weights == Weights::kReturn) result.weights = attention_weights(q.rows, k.rows, options);
  return result;
}

void DynamicSparseAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::DynamicSparseAttention(buckets=" << options_.buckets
         << ", rounds=" << options_.rounds << ", heads=" << options_.heads
         << ", causal=" << bool_name(options_.causal) << ")";
}

}  // namespace heed::nn
