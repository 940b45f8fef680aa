// Attention on feature maps with LibTorch: the C++ blocks of their pages in docs/mechanisms. Prints
// the sizes of each output.
#include <ATen/Context.h>
#include <ATen/ops/randn.h>

#include <cstdio>
#include <sstream>

#include "heed/nn/cbam.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/non_local_attention.h"
#include "heed/nn/relative_positions_2d.h"
#include "heed/nn/squeeze_excitation.h"

using namespace heed::nn;

namespace {

void show(const char* name, const at::Tensor& x) {
  std::ostringstream sizes;
  sizes << x.sizes();
  std::printf("%-20s %s\n", name, sizes.str().c_str());
}

at::Tensor squeeze_excitation(const at::Tensor& x) {
  SqueezeExcitation gate(SqueezeExcitationOptions{.channels = x.size(1), .reduction = 4});
  const ChannelAttentionOutput seen = gate(x);
  return seen.output;  // [B,C,rows,columns]; seen.channel_weights is [B,C]
}

at::Tensor cbam(const at::Tensor& x) {
  Cbam gate(CbamOptions{.channels = x.size(1), .reduction = 4});
  const CbamOutput seen = gate(x);
  return seen.output;  // with seen.channel_weights [B,C], seen.spatial_weights [B,rows,columns]
}

at::Tensor non_local(const at::Tensor& x) {
  const int64_t C = x.size(1);
  NonLocalAttention attention(NonLocalAttentionOptions{
      .channels = C, .key_channels = C / 8, .value_channels = C / 2, .pool = 2});
  const AttentionOutput seen = attention(x, Weights::kReturn);
  return seen.output;  // [B,C,rows,columns]; seen.weights is [B,1,T,T / 4]
}

at::Tensor swin_window(const at::Tensor& x) {  // [B * windows,C,7,7]
  const int64_t C = x.size(1), heads = 4;
  const RelativePositions2d positions(
      RelativePositions2dOptions{.rows = 7, .columns = 7, .heads = heads});
  NonLocalAttention attention(NonLocalAttentionOptions{.channels = C,
                                                       .key_channels = C,
                                                       .value_channels = C,
                                                       .heads = heads,
                                                       .scale = 0.5,
                                                       .positions = positions});
  return attention(x).output;
}

at::Tensor pixels_as_tokens(const at::Tensor& x) {  // [B,14 * 14,64]
  const RelativePositions2d positions(
      RelativePositions2dOptions{.rows = 14, .columns = 14, .bias = false, .head_size = 16});
  MultiHeadAttention attention(
      MultiHeadAttentionOptions{.embed_size = 64, .heads = 4, .positions = positions.ptr()});
  return attention(x, x, x).output;
}

}  // namespace

int main() {
  at::manual_seed(0);
  const at::Tensor x = at::randn({2, 16, 8, 12});
  show("squeeze_excitation", squeeze_excitation(x));
  show("cbam", cbam(x));
  show("non_local", non_local(x));
  show("swin_window", swin_window(at::randn({8, 16, 7, 7})));
  show("pixels_as_tokens", pixels_as_tokens(at::randn({2, 14 * 14, 64})));
}
