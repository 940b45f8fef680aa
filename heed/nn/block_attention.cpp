#include "heed/nn/block_attention.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randint.h>

#include <algorithm>

#include "heed/nn/heads.h"

namespace heed::nn {

BlockAttentionImpl::BlockAttentionImpl(const BlockAttentionOptions& options) : options_(options) {
  check_heads("BlockAttention", options.heads);
  TORCH_CHECK(options.block_size > 0, "[BlockAttention] block_size: expected at least 1, got ",
              options.block_size);
}

at::Tensor BlockAttentionImpl::drawn(int64_t T, int64_t S) const {
  const auto blocks = [&](int64_t n) {
    return (n + options_.block_size - 1) / options_.block_size;
  };
  const int64_t places = options_.causal == Causal::kBottomRight ? std::max(T, S) : T;
  return at::randint(std::max<int64_t>(blocks(S), 1),
                     {options_.heads, blocks(places), options_.random_blocks},
                     at::detail::createCPUGenerator(options_.seed));
}

AttentionOutput BlockAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                            const at::Tensor& values, const at::Tensor& lengths,
                                            Weights weights) {
  using namespace program;
  const int64_t T = query.size(1), S = keys.size(1);
  const bool from_the_end = options_.causal == Causal::kBottomRight;
  Expression place = t();
  if (from_the_end) {
    place = t() - T + (lengths.defined() ? table(lengths)[b()] : Expression(S));
  }
  const Expression i = floor_div(place, options_.block_size);
  const Expression j = floor_div(s(), options_.block_size);
  Expression seen = abs(i - j) <= options_.neighbours;
  if (options_.global_blocks > 0) {
    seen = seen || i < options_.global_blocks || j < options_.global_blocks;
  }
  if (options_.random_blocks > 0) {
    const at::Tensor drawn_blocks = drawn(T, S);
    const Table chosen = table(drawn_blocks);
    // Queries before the first place see nothing; the clamp proves that the index stays inside.
    const Expression row = from_the_end ? min(max(i, 0), drawn_blocks.size(1) - 1) : i;
    for (int64_t n = 0; n < options_.random_blocks; ++n) {
      seen = seen || chosen.at({h(), row, n}) == j;
    }
  }
  const AttentionOptions options{.program = ScoreProgram::masked(seen),
                                 .causal = options_.causal,
                                 .kv_lengths = lengths,
                                 .dropout_p = is_training() ? options_.dropout : 0};
  return attend_heads(query, keys, values, options_.heads, options, weights);
}

void BlockAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::BlockAttention(block_size=" << options_.block_size
         << ", heads=" << options_.heads << ", neighbours=" << options_.neighbours
         << ", global_blocks=" << options_.global_blocks
         << ", random_blocks=" << options_.random_blocks
         << ", causal=" << corner_name(options_.causal) << ")";
}

}  // namespace heed::nn
