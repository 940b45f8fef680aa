// Multi-head attention (Vaswani 2017): concat_h(softmax(scale q_h k_h^T) v_h) W_o, with grouped
// key/value heads (Shazeer 2019, Ainslie 2023).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <functional>
#include <memory>
#include <optional>

#include "heed/core/attention.h"
#include "heed/nn/attention_output.h"
#include "heed/nn/attention_positions.h"
#include "heed/nn/key_value_cache.h"
#include "heed/ops/attention.h"

namespace heed::nn {

struct MultiHeadAttentionOptions {
  int64_t embed_size;                          // E, a multiple of heads unless head_size is given
  int64_t heads;                               // H
  int64_t kv_heads = 0;                        // Hkv, divides H; 0 means H
  int64_t key_size = 0;                        // width of key rows; 0 means E
  int64_t value_size = 0;                      // width of value rows; 0 means E
  bool bias = true;                            // of the four projections
  int64_t head_size = 0;                       // D of a head's queries and keys; 0 means E / H
  int64_t value_head_size = 0;                 // Dv of a head's values; 0 means D
  std::optional<double> scale = std::nullopt;  // of the products; none: 1 / sqrt(D)
  double dropout = 0;       // probability with which a weight is dropped while training
  bool batch_first = true;  // [B,T,E]; false: [T,B,E] for query, key, value and output
  std::shared_ptr<AttentionPositionsImpl> positions = nullptr;  // joins in every call
};

// What one call may add.
struct MultiHeadAttentionCall {
  at::Tensor lengths = {};  // [B] int64, rows of key and value that count
  // Which corner of T x S the diagonal starts from. With a cache the queries follow the rows that
  // it held, whichever is named.
  Causal causal = Causal::kNone;
  Window window = {};           // keys around the query's place
  at::Tensor key_padding = {};  // [B,S] bool, true where a key is padding; S counts a cache's rows
  at::Tensor head_mask = {};    // [H] or [B,H], a factor of each head's output; 0 switches it off
  // What becomes of the score, after the positions' own, and which keys are seen.
  std::function<program::Expression(const program::Expression&)> score_mod = nullptr;
  std::optional<program::Expression> mask = std::nullopt;
  // Key and value are appended to it, and all its rows are attended to. Not append: it stays as it
  // is, key and value go unread (a decoder's cross-attention after its first step).
  KeyValueCache* cache = nullptr;
  bool append = true;
  Weights weights = Weights::kNone;
};

class MultiHeadAttentionImpl : public torch::nn::Module {
 public:
  explicit MultiHeadAttentionImpl(const MultiHeadAttentionOptions& options);

  // Glorot's uniform, biases 0, as the paper's own program; positions keep theirs.
  void reset_parameters();

  // query [B,T,E], key [B,S,key_size], value [B,S,value_size], lengths [B] int64 or undefined.
  // Returns output [B,T,E], weights [B,H,T,S]. Self-attention passes one tensor three times.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const at::Tensor& lengths = {}, Causal causal = Causal::kNone,
                          Weights weights = Weights::kNone);

  // The same with all that a call may add; key and value may be undefined where they go unread.
  AttentionOutput attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const MultiHeadAttentionCall& call);

  // For this layer, in its dtype.
  KeyValueCache make_cache(int64_t batch, int64_t capacity, bool grow = false) const;

  void pretty_print(std::ostream& stream) const override;

 private:
  // [B,T,*] from the caller's layout, or back into it.
  at::Tensor batch_first(const at::Tensor& x) const;
  // Where the first query stands among the keys: [B] int64, or undefined for 0.
  at::Tensor offset_of(const at::Tensor& query, const at::Tensor& key,
                       const MultiHeadAttentionCall& call) const;
  // Sets heads.k, v [B,Hkv,S,Dv] and how many rows of each element count.
  void read_keys(const at::Tensor& key, const at::Tensor& value, const MultiHeadAttentionCall& call,
                 AttentionHeads& heads, at::Tensor& v, at::Tensor& kv_lengths);
  at::Tensor mix(const AttentionHeads& heads, const at::Tensor& v, const program::Expression& score,
                 const std::optional<program::Expression>& mask, AttentionOptions& options);

  MultiHeadAttentionOptions options_;
  torch::nn::Linear query_projection_{nullptr}, key_projection_{nullptr},
      value_projection_{nullptr}, output_projection_{nullptr};
};
TORCH_MODULE(MultiHeadAttention);

}  // namespace heed::nn
