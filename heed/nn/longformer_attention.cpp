#include "heed/nn/longformer_attention.h"

#include <ATen/ops/zeros.h>
#include <torch/nn/init.h>

#include "heed/nn/heads.h"

namespace heed::nn {

LongformerAttentionImpl::LongformerAttentionImpl(const LongformerAttentionOptions& options)
    : options_(options) {
  const int64_t E = options.embed_size;
  check_embed_size("LongformerAttention", E, options.heads);
  TORCH_CHECK(options.window >= 0, "[LongformerAttention] window: expected at least 0, got ",
              options.window);
  const auto square = [&](const char* name) {
    return register_module(name, torch::nn::Linear(E, E));
  };
  query_projection_ = square("query_projection");
  key_projection_ = square("key_projection");
  value_projection_ = square("value_projection");
  global_query_projection_ = square("global_query_projection");
  global_key_projection_ = square("global_key_projection");
  global_value_projection_ = square("global_value_projection");
  output_projection_ = square("output_projection");
  reset_parameters();
}

void LongformerAttentionImpl::reset_parameters() {
  for (const auto& module : modules(/*include_self=*/false)) {
    auto& linear = *module->as<torch::nn::LinearImpl>();
    torch::nn::init::normal_(linear.weight, 0, 0.02);
    torch::nn::init::zeros_(linear.bias);
  }
}

AttentionOutput LongformerAttentionImpl::forward(const at::Tensor& x, const at::Tensor& is_global,
                                                 const at::Tensor& lengths, Weights weights) {
  check_rows("LongformerAttention", "x", x, "[B,T,E]", options_.embed_size);
  const at::Tensor marked =
      is_global.defined() ? is_global : at::zeros({x.size(0), x.size(1)}, at::kBool);
  TORCH_CHECK(marked.scalar_type() == at::kBool && marked.sizes() == x.sizes().slice(0, 2),
              "[LongformerAttention] is_global: expected bool [B,T] = ", x.sizes().slice(0, 2),
              ", got ", marked.scalar_type(), " ", marked.sizes());

  // Each query belongs to one of the two attentions and gets 0 from the other, so they add up.
  using namespace program;
  const Expression query_is_global = table(marked).at({b(), t()});
  const Expression key_is_global = table(marked).at({b(), s()});
  const auto attend = [&](const ScoreProgram& mask, torch::nn::Linear& query,
                          torch::nn::Linear& key, torch::nn::Linear& value) {
    const AttentionOptions options{
        .program = mask, .kv_lengths = lengths, .dropout_p = is_training() ? options_.dropout : 0};
    return attend_heads(query(x), key(x), value(x), options_.heads, options, weights);
  };
  const Expression near = abs(t() - s()) <= options_.window;
  AttentionOutput result = attend(ScoreProgram::masked(!query_is_global && (near || key_is_global)),
                                  query_projection_, key_projection_, value_projection_);
  if (marked.any().item<bool>()) {
    const AttentionOutput everywhere =
        attend(ScoreProgram::masked(query_is_global), global_query_projection_,
               global_key_projection_, global_value_projection_);
    result.output = result.output + everywhere.output;
    if (weights == Weights::kReturn) result.weights = result.weights + everywhere.weights;
  }
  result.output = output_projection_(result.output);
  return result;
}

void LongformerAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::LongformerAttention(embed_size=" << options_.embed_size
         << ", heads=" << options_.heads << ", window=" << options_.window << ")";
}

}  // namespace heed::nn
