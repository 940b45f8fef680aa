// Mechanisms that are a score, with LibTorch: the C++ blocks of their pages in docs/mechanisms.
// Prints the sizes of each output.
#include <ATen/Context.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tensor.h>

#include <cstdio>
#include <sstream>
#include <vector>

#include "heed/nn/additive_attention.h"
#include "heed/nn/content_location_attention.h"
#include "heed/nn/cosine_attention.h"
#include "heed/nn/dot_attention.h"
#include "heed/nn/general_attention.h"
#include "heed/nn/kernel_regression.h"
#include "heed/nn/location_attention.h"
#include "heed/nn/location_sensitive_attention.h"

using namespace heed::nn;

namespace {

void show(const char* name, const at::Tensor& x) {
  std::ostringstream sizes;
  sizes << x.sizes();
  std::printf("%-20s %s\n", name, sizes.str().c_str());
}

at::Tensor dot(const at::Tensor& query, const at::Tensor& memory, const at::Tensor& lengths) {
  DotAttention attention;                                   // scaled; {.scaled = false}: not
  return attention(query, memory, memory, lengths).output;  // [B,T,E]
}

at::Tensor general(const at::Tensor& query, const at::Tensor& memory, const at::Tensor& lengths) {
  GeneralAttention attention(
      GeneralAttentionOptions{.query_size = query.size(2), .key_size = memory.size(2)});
  const at::Tensor keys = attention->keys(memory);        // once for all queries
  return attention(query, keys, memory, lengths).output;  // [B,T,E]
}

at::Tensor additive(const at::Tensor& query, const at::Tensor& memory, const at::Tensor& lengths) {
  AdditiveAttention attention(AdditiveAttentionOptions{
      .query_size = query.size(2), .key_size = memory.size(2), .size = 32});
  const at::Tensor keys = attention->keys(memory);        // once for all queries
  return attention(query, keys, memory, lengths).output;  // [B,T,E]
}

at::Tensor cosine(const at::Tensor& query, const at::Tensor& memory, const at::Tensor& lengths) {
  CosineAttention attention(CosineAttentionOptions{.initial_scale = 10, .max_scale = 100});
  return attention(query, memory, memory, lengths).output;  // [B,T,E]
}

at::Tensor location(const at::Tensor& query, const at::Tensor& memory, const at::Tensor& lengths) {
  LocationAttention attention(
      LocationAttentionOptions{.query_size = query.size(2), .max_length = 50});
  return attention(query, memory, lengths).output;  // [B,T,E]
}

at::Tensor location_sensitive(const at::Tensor& query, const at::Tensor& memory,
                              const at::Tensor& lengths) {
  LocationSensitiveAttention attention(LocationSensitiveAttentionOptions{
      .query_size = query.size(2), .key_size = memory.size(2), .size = 32, .width = 5});
  const at::Tensor keys = attention->keys(memory);  // once for all steps
  std::vector<at::Tensor> outputs;
  AttentionOutput step;  // without weights before the first
  for (int64_t t = 0; t < query.size(1); ++t) {
    step = attention(query.narrow(1, t, 1), keys, memory, step.weights, lengths);
    outputs.push_back(step.output);
  }
  return at::cat(outputs, 1);  // [B,T,E]
}

at::Tensor smooth(const at::Tensor& x, const at::Tensor& y) {  // observations [B,S,1]
  KernelRegression regression(KernelRegressionOptions{.bandwidth = 0.1});
  const at::Tensor grid = at::linspace(0, 1, 11).view({1, 11, 1}).expand({x.size(0), 11, 1});
  return regression(grid, x, y).output;  // [B,11,1]
}

at::Tensor content_location(const at::Tensor& query, const at::Tensor& memory,
                            const at::Tensor& lengths) {
  ContentLocationAttention attention(ContentLocationAttentionOptions{.size = query.size(2)});
  return attention(query, memory, memory, lengths).output;  // [B,T,E]
}

}  // namespace

int main() {
  at::manual_seed(0);
  const at::Tensor query = at::randn({2, 6, 16}), memory = at::randn({2, 20, 16});
  const at::Tensor lengths = at::tensor({20, 13}, at::kLong);
  show("dot", dot(query, memory, lengths));
  show("general", general(query, memory, lengths));
  show("additive", additive(query, memory, lengths));
  show("cosine", cosine(query, memory, lengths));
  show("location", location(query, memory, lengths));
  show("location_sensitive", location_sensitive(query, memory, lengths));
  const at::Tensor x = at::linspace(0, 1, 20).view({1, 20, 1});
  show("kernel_regression", smooth(x, at::sin(6 * x)));
  show("content_location", content_location(query, memory, lengths));
}
