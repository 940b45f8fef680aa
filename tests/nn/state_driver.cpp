// Each module with a state, for tests/python/test_nn_states.py, which has the same table: FOLDER
// holds "inputs" and, in python/NAME, states that Python saved. Writes cpp/NAME, a state of its
// own, and beside either kind NAME.output, what the module makes of the inputs with that state.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/data/safetensors.h"
#include "heed/models/parameters.h"
#include "heed/nn/adaptive_span_attention.h"
#include "heed/nn/additive_attention.h"
#include "heed/nn/alibi.h"
#include "heed/nn/attention_pooling.h"
#include "heed/nn/cbam.h"
#include "heed/nn/content_location_attention.h"
#include "heed/nn/cosine_attention.h"
#include "heed/nn/coverage_attention.h"
#include "heed/nn/dynamic_sparse_attention.h"
#include "heed/nn/general_attention.h"
#include "heed/nn/hierarchical_attention.h"
#include "heed/nn/learned_positions.h"
#include "heed/nn/local_predictive_attention.h"
#include "heed/nn/location_attention.h"
#include "heed/nn/location_sensitive_attention.h"
#include "heed/nn/longformer_attention.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/non_local_attention.h"
#include "heed/nn/random_feature_attention.h"
#include "heed/nn/relative_positions.h"
#include "heed/nn/relative_positions_2d.h"
#include "heed/nn/rotary_positions.h"
#include "heed/nn/sentinel_attention.h"
#include "heed/nn/set_attention.h"
#include "heed/nn/squeeze_excitation.h"
#include "heed/nn/t5_bias.h"
#include "heed/nn/token_embedding.h"
#include "heed/nn/transformer_decoder.h"
#include "heed/nn/transformer_encoder.h"
#include "heed/nn/transformer_xl_positions.h"

namespace heed::nn {
namespace {

constexpr int64_t kE = 12, kH = 3, kD = kE / kH, kSize = 8;

struct Inputs {
  at::Tensor x;          // [B,T,E]
  at::Tensor memory;     // [B,S,E]
  at::Tensor lengths;    // [B] int64, rows of memory that count
  at::Tensor words;      // [B,N,T,E]
  at::Tensor map;        // [B,E,rows,columns]
  at::Tensor tokens;     // [B,T] int64
  at::Tensor is_global;  // [B,T] bool
};

struct Case {
  std::string name;
  std::shared_ptr<torch::nn::Module> module;
  std::function<at::Tensor(const Inputs&)> output;
};

template <class Module, class Output>
Case make_case(std::string name, const Module& module, Output output) {
  return {std::move(name), module.ptr(),
          [=](const Inputs& inputs) { return output(*module.ptr(), inputs); }};
}

// --- How modules are called ----------------------------------------------------------------------

const auto on_rows = [](auto& m, const Inputs& in) { return m.forward(in.x).output; };
const auto on_memory = [](auto& m, const Inputs& in) {
  return m.forward(in.memory, in.lengths).output;
};
const auto on_map = [](auto& m, const Inputs& in) { return m.forward(in.map).output; };
const auto asking = [](auto& m, const Inputs& in) {
  return m.forward(in.x, in.memory, in.memory, in.lengths).output;
};
const auto asking_projected = [](auto& m, const Inputs& in) {
  return m.forward(in.x, m.keys(in.memory), in.memory, in.lengths).output;
};

// --- Modules -------------------------------------------------------------------------------------

Case multi_head(std::string name, std::shared_ptr<AttentionPositionsImpl> positions) {
  return make_case(std::move(name),
                   MultiHeadAttention(MultiHeadAttentionOptions{
                       .embed_size = kE, .heads = kH, .positions = std::move(positions)}),
                   asking);
}

RelativePositions relative() {
  return RelativePositions(RelativePositionsOptions{.head_size = kD, .max_distance = 3});
}

T5Bias t5() { return T5Bias(T5BiasOptions{.heads = kH, .buckets = 8, .max_distance = 12}); }

std::vector<Case> multi_heads() {
  return {make_case("multi_head",
                    MultiHeadAttention(MultiHeadAttentionOptions{
                        .embed_size = kE, .heads = kH, .kv_heads = 1, .value_head_size = 5}),
                    asking),
          multi_head("multi_head_relative", relative().ptr()),
          multi_head("multi_head_t5", t5().ptr()),
          multi_head(
              "multi_head_transformer_xl",
              TransformerXLPositions(TransformerXLPositionsOptions{.embed_size = kE, .heads = kH})
                  .ptr()),
          multi_head("multi_head_rotary",
                     RotaryPositions(RotaryPositionsOptions{.head_size = kD}).ptr()),
          multi_head("multi_head_alibi", Alibi(AlibiOptions{.heads = kH}).ptr())};
}

std::vector<Case> transformers() {
  const TransformerLayerOptions post{.embed_size = kE, .heads = kH, .hidden_size = 20};
  TransformerLayerOptions shared = post, pre = post;
  shared.positions = t5().ptr();
  pre.kv_heads = 1;
  pre.activation = Activation::kSwiglu;
  pre.norm = NormKind::kRms;
  pre.norm_first = true;
  pre.bias = false;
  return {
      make_case("encoder",
                TransformerEncoder(TransformerStackOptions{.layers = 2, .layer = shared}), on_rows),
      make_case("encoder_pre_norm",
                TransformerEncoder(TransformerStackOptions{
                    .layers = 2, .layer = pre, .make_positions = [] { return relative().ptr(); }}),
                on_rows),
      make_case("decoder", TransformerDecoder(TransformerStackOptions{.layers = 2, .layer = post}),
                [](auto& m, const Inputs& in) {
                  return m.forward(in.x, in.memory, {}, in.lengths).output;
                }),
      make_case("token_embedding",
                TokenEmbedding(TokenEmbeddingOptions{
                    .vocabulary_size = 9,
                    .embed_size = kE,
                    .scaled = true,
                    .positions = torch::nn::AnyModule(LearnedPositions(
                        LearnedPositionsOptions{.length = 16, .embed_size = kE}))}),
                [](auto& m, const Inputs& in) { return m.forward(in.tokens); })};
}

std::vector<Case> scores() {
  return {make_case("additive",
                    AdditiveAttention(
                        AdditiveAttentionOptions{.query_size = kE, .key_size = kE, .size = kSize}),
                    asking_projected),
          make_case("general",
                    GeneralAttention(GeneralAttentionOptions{.query_size = kE, .key_size = kE}),
                    asking_projected),
          make_case("cosine", CosineAttention(), asking),
          make_case("location",
                    LocationAttention(LocationAttentionOptions{.query_size = kE, .max_length = 16}),
                    [](auto& m, const Inputs& in) {
                      return m.forward(in.x, in.memory, in.lengths).output;
                    }),
          make_case("location_sensitive",
                    LocationSensitiveAttention(LocationSensitiveAttentionOptions{
                        .query_size = kE, .key_size = kE, .size = kSize, .filters = 3, .width = 5}),
                    [](auto& m, const Inputs& in) {
                      const at::Tensor keys = m.keys(in.memory), query = in.x.narrow(1, 0, 1);
                      const at::Tensor first =
                          m.forward(query, keys, in.memory, {}, in.lengths).weights;
                      return m.forward(query, keys, in.memory, first, in.lengths).output;
                    }),
          make_case("content_location",
                    ContentLocationAttention(ContentLocationAttentionOptions{.size = kE}), asking)};
}

std::vector<Case> reaches() {
  return {make_case("local_predictive",
                    LocalPredictiveAttention(LocalPredictiveAttentionOptions{
                        .query_size = kE, .size = kSize, .window = 2}),
                    asking),
          make_case("longformer",
                    LongformerAttention(
                        LongformerAttentionOptions{.embed_size = kE, .heads = kH, .window = 2}),
                    [](auto& m, const Inputs& in) { return m.forward(in.x, in.is_global).output; }),
          make_case("adaptive_span",
                    AdaptiveSpanAttention(AdaptiveSpanAttentionOptions{.max_span = 4, .heads = kH}),
                    [](auto& m, const Inputs& in) { return m.forward(in.x, in.x, in.x).output; }),
          make_case("dynamic_sparse",
                    DynamicSparseAttention(
                        DynamicSparseAttentionOptions{.head_size = kD, .buckets = 4, .heads = kH}),
                    asking),
          make_case("random_features",
                    RandomFeatureAttention(RandomFeatureAttentionOptions{
                        .head_size = kD, .features = 16, .heads = kH}),
                    asking)};
}

std::vector<Case> compositions() {
  const SetAttentionOptions set{.embed_size = kE, .heads = kH};
  return {make_case("coverage",
                    CoverageAttention(
                        CoverageAttentionOptions{.query_size = kE, .key_size = kE, .size = kSize}),
                    asking_projected),
          make_case("sentinel",
                    SentinelAttention(SentinelAttentionOptions{
                        .query_size = kE, .key_size = kE, .value_size = kE, .size = kSize}),
                    [](auto& m, const Inputs& in) {
                      return m.forward(in.x, m.keys(in.memory), in.memory, in.x, in.lengths).output;
                    }),
          make_case("pooling",
                    AttentionPooling(AttentionPoolingOptions{
                        .embed_size = kE, .queries = 2, .hidden_size = kSize}),
                    on_memory),
          make_case("hierarchical",
                    HierarchicalAttention(HierarchicalAttentionOptions{
                        .embed_size = kE, .hidden_size = kSize, .encoder_size = 5}),
                    [](auto& m, const Inputs& in) { return m.forward(in.words).output; }),
          make_case("set", SetAttentionBlock(set), on_memory),
          make_case("induced_set", InducedSetAttentionBlock(set, /*points=*/4), on_memory),
          make_case("set_pooling", PoolingByMultiheadAttention(set, /*seeds=*/2), on_memory)};
}

std::vector<Case> images() {
  return {make_case("squeeze_excitation",
                    SqueezeExcitation(SqueezeExcitationOptions{.channels = kE, .reduction = 4}),
                    on_map),
          make_case("cbam", Cbam(CbamOptions{.channels = kE, .reduction = 4, .kernel_size = 3}),
                    on_map),
          make_case("non_local",
                    NonLocalAttention(NonLocalAttentionOptions{
                        .channels = kE,
                        .heads = 2,
                        .positions = RelativePositions2d(RelativePositions2dOptions{
                            .rows = 6, .columns = 6, .heads = 2, .head_size = 3})}),
                    on_map)};
}

// --- Files ---------------------------------------------------------------------------------------

void save_output(const std::filesystem::path& state, const Case& tested, const Inputs& inputs) {
  write_safetensors(state.string() + ".output", {{"output", tested.output(inputs).contiguous()}});
}

void run(const std::filesystem::path& folder) {
  const at::NoGradGuard no_grad;
  const TensorMap read = read_safetensors(folder / "inputs").tensors;
  const Inputs inputs{.x = read.at("x"),
                      .memory = read.at("memory"),
                      .lengths = read.at("lengths"),
                      .words = read.at("words"),
                      .map = read.at("map"),
                      .tokens = read.at("tokens"),
                      .is_global = read.at("is_global")};
  for (const auto group : {multi_heads, transformers, scores, reaches, compositions, images}) {
    for (const Case& tested : group()) {
      tested.module->eval();
      // What starts at 0 would not tell one name from another.
      for (at::Tensor& parameter : tested.module->parameters()) parameter.uniform_(-0.5, 0.5);
      const std::filesystem::path ours = folder / "cpp" / tested.name,
                                  theirs = folder / "python" / tested.name;
      write_safetensors(ours, models::named_tensors(*tested.module));
      save_output(ours, tested, inputs);
      models::load_tensors(*tested.module, read_safetensors(theirs).tensors, theirs.string());
      save_output(theirs, tested, inputs);
    }
  }
}

}  // namespace
}  // namespace heed::nn

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: heed_state_driver FOLDER\n";
    return 2;
  }
  at::set_num_threads(1);
  at::manual_seed(1);
  try {
    heed::nn::run(argv[1]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
