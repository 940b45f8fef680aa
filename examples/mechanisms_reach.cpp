// Mechanisms of reach, sparsity and linear time with LibTorch: the C++ blocks of their pages in
// docs/mechanisms. Prints the sizes of each output.
#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cstdio>
#include <sstream>

#include "heed/nn/adaptive_span_attention.h"
#include "heed/nn/attention_pooling.h"
#include "heed/nn/block_attention.h"
#include "heed/nn/coverage_attention.h"
#include "heed/nn/document_attention.h"
#include "heed/nn/dynamic_sparse_attention.h"
#include "heed/nn/hierarchical_attention.h"
#include "heed/nn/linear_attention.h"
#include "heed/nn/local_attention.h"
#include "heed/nn/local_predictive_attention.h"
#include "heed/nn/longformer_attention.h"
#include "heed/nn/random_feature_attention.h"
#include "heed/nn/sentinel_attention.h"
#include "heed/nn/set_attention.h"
#include "heed/nn/top_k_attention.h"

using namespace heed::nn;

namespace {

void show(const char* name, const at::Tensor& x) {
  std::ostringstream sizes;
  sizes << x.sizes();
  std::printf("%-20s %s\n", name, sizes.str().c_str());
}

at::Tensor local(const at::Tensor& x, const at::Tensor& lengths) {
  LocalAttention attention(LocalAttentionOptions{.window = 2, .heads = 4});
  return attention(x, x, x, lengths).output;  // [B,T,E]
}

at::Tensor local_predictive(const at::Tensor& query, const at::Tensor& memory) {
  LocalPredictiveAttention attention(
      LocalPredictiveAttentionOptions{.query_size = query.size(2), .size = 16, .window = 3});
  return attention(query, memory, memory).output;  // [B,T,E]
}

at::Tensor longformer(const at::Tensor& x, const at::Tensor& lengths) {
  LongformerAttention attention(
      LongformerAttentionOptions{.embed_size = x.size(2), .heads = 4, .window = 2});
  const at::Tensor is_global = at::zeros({x.size(0), x.size(1)}, at::kBool);
  is_global.select(1, 0).fill_(true);              // the first token, as for classification
  return attention(x, is_global, lengths).output;  // [B,T,E]
}

at::Tensor block(const at::Tensor& x) {
  BlockAttention attention(BlockAttentionOptions{
      .block_size = 4, .heads = 4, .neighbours = 1, .global_blocks = 1, .random_blocks = 1});
  return attention(x, x, x).output;  // [B,T,E]
}

at::Tensor document(const at::Tensor& x) {
  DocumentAttention attention(DocumentAttentionOptions{.causal = heed::Causal::kTopLeft});
  const at::Tensor ids = at::arange(x.size(1)).div(5, "floor").expand({x.size(0), -1});
  return attention(x, x, x, Documents{.of_queries = ids}).output;  // [B,T,E]
}

at::Tensor adaptive_span(const at::Tensor& x) {
  AdaptiveSpanAttention attention(
      AdaptiveSpanAttentionOptions{.max_span = 64, .heads = 4, .ramp = 8});
  const at::Tensor loss = attention(x, x, x).output.square().mean() + attention->span_loss();
  loss.backward();                                      // reaches the spans as well
  attention->clamp_span();                              // after the optimiser's step
  return attention->named_parameters()["span"].grad();  // [H]
}

at::Tensor dynamic_sparse(const at::Tensor& x) {
  DynamicSparseAttention attention(DynamicSparseAttentionOptions{
      .head_size = x.size(2) / 4, .buckets = 4, .rounds = 2, .heads = 4});
  return attention(x, x, x).output;  // [B,T,E]
}

at::Tensor top_k(const at::Tensor& x, const at::Tensor& lengths) {
  TopKAttention attention(TopKAttentionOptions{.sparsity_factor = 0.25, .heads = 4});
  return attention(x, x, x, lengths).output;  // [B,T,E]
}

at::Tensor linear(const at::Tensor& x) {
  LinearAttention attention(LinearAttentionOptions{.heads = 4, .causal = true});
  return attention(x, x, x).output;  // [B,T,E]
}

at::Tensor random_features(const at::Tensor& x) {
  RandomFeatureAttention attention(
      RandomFeatureAttentionOptions{.head_size = x.size(2) / 4, .features = 32, .heads = 4});
  attention->reset_parameters();     // another draw: every so many steps of training
  return attention(x, x, x).output;  // [B,T,E]
}

at::Tensor coverage(const at::Tensor& decoder, const at::Tensor& memory) {
  CoverageAttention attention(CoverageAttentionOptions{
      .query_size = decoder.size(2), .key_size = memory.size(2), .size = 16});
  const at::Tensor keys = attention->keys(memory);
  const CoverageOutput first = attention(decoder.narrow(1, 0, 1), keys, memory);
  const CoverageOutput next =
      attention(decoder.narrow(1, 1, 1), keys, memory, at::Tensor(), first.coverage);
  return next.loss;  // [B,1]: how much the second step looked where the first had
}

at::Tensor sentinel(const at::Tensor& input, const at::Tensor& hidden, const at::Tensor& cell,
                    const at::Tensor& memory) {
  const int64_t E = hidden.size(2);
  VisualSentinel gate(input.size(2), E);
  SentinelAttention attention(SentinelAttentionOptions{
      .query_size = E, .key_size = memory.size(2), .value_size = E, .size = 16});
  const at::Tensor before =
      at::cat({at::zeros_like(hidden.narrow(1, 0, 1)), hidden.narrow(1, 0, hidden.size(1) - 1)},
              1);                                                                    // h[t - 1]
  const at::Tensor known = gate(input, before, cell);                                // [B,T,E]
  return attention(hidden, attention->keys(memory), memory, known).sentinel_weight;  // [B,T]
}

at::Tensor pooling(const at::Tensor& x, const at::Tensor& lengths) {
  AttentionPooling pool(AttentionPoolingOptions{.embed_size = x.size(2), .hidden_size = 16});
  return pool(x, lengths).output.squeeze(1);  // [B,E]
}

at::Tensor hierarchical(const at::Tensor& words) {  // [B,N,T,E]
  HierarchicalAttention attention(HierarchicalAttentionOptions{
      .embed_size = words.size(3), .hidden_size = 16, .encoder_size = 8});
  const at::Tensor word_lengths = at::tensor({5, 3, 0, 4, 4, 2}, at::kLong).view({2, 3});
  const at::Tensor sentence_lengths = at::tensor({2, 3}, at::kLong);
  return attention(words, word_lengths, sentence_lengths).output;  // [B,2 * encoder_size]
}

at::Tensor set_blocks(const at::Tensor& x, const at::Tensor& lengths) {
  const SetAttentionOptions options{.embed_size = x.size(2), .heads = 4};
  InducedSetAttentionBlock encode(options, /*points=*/8);
  PoolingByMultiheadAttention pool(options);
  return pool(encode(x, lengths).output, lengths).output;  // [B,1,E]
}

}  // namespace

int main() {
  at::manual_seed(0);
  const at::Tensor x = at::randn({2, 20, 16}), lengths = at::tensor({20, 13}, at::kLong);
  const at::Tensor query = at::randn({2, 6, 16});
  show("local", local(x, lengths));
  show("local_predictive", local_predictive(query, x));
  show("longformer", longformer(x, lengths));
  show("block", block(x));
  show("document", document(x));
  show("adaptive_span", adaptive_span(x));
  show("dynamic_sparse", dynamic_sparse(x));
  show("top_k", top_k(x, lengths));
  show("linear", linear(x));
  show("random_features", random_features(x));
  show("coverage", coverage(query, x));
  show("sentinel", sentinel(at::randn({2, 6, 8}), query, at::randn({2, 6, 16}), x));
  show("pooling", pooling(x, lengths));
  show("hierarchical", hierarchical(at::randn({2, 3, 5, 16})));
  show("set_blocks", set_blocks(x, lengths));
}
