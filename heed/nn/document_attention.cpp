#include "heed/nn/document_attention.h"

#include "heed/nn/heads.h"

namespace heed::nn {
namespace {

void check_documents(const char* argument, const at::Tensor& ids, const at::Tensor& rows) {
  const at::IntArrayRef sizes = rows.sizes().slice(0, 2);
  TORCH_CHECK(ids.defined() && ids.scalar_type() == at::kLong && ids.sizes() == sizes,
              "[DocumentAttention] ", argument, ": expected int64 ", sizes, ", got ",
              ids.toString(), " ", ids.defined() ? ids.sizes() : at::IntArrayRef());
}

}  // namespace

DocumentAttentionImpl::DocumentAttentionImpl(const DocumentAttentionOptions& options)
    : options_(options) {
  check_heads("DocumentAttention", options.heads);
}

AttentionOutput DocumentAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                               const at::Tensor& values, const Documents& documents,
                                               const at::Tensor& lengths, Weights weights) {
  const at::Tensor of_keys = documents.of_keys.defined() ? documents.of_keys : documents.of_queries;
  check_documents("documents", documents.of_queries, query);
  check_documents("key_documents", of_keys, keys);
  using namespace program;
  const Expression same =
      table(documents.of_queries).at({b(), t()}) == table(of_keys).at({b(), s()});
  const AttentionOptions options{.program = ScoreProgram::masked(same),
                                 .causal = options_.causal,
                                 .kv_lengths = lengths,
                                 .dropout_p = is_training() ? options_.dropout : 0};
  return attend_heads(query, keys, values, options_.heads, options, weights);
}

void DocumentAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::DocumentAttention(heads=" << options_.heads
         << ", causal=" << corner_name(options_.causal) << ")";
}

}  // namespace heed::nn
