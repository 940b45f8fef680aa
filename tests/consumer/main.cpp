// Two queries, three keys: the second key is far the best match, so its value comes out.
#include <heed/core/attention.h>

#include <cmath>
#include <cstdio>

int main() {
  const float q[2][2] = {{1, 0}, {0, 1}};
  const float k[3][2] = {{-30, -30}, {30, 30}, {-30, -30}};
  const float v[3][1] = {{1}, {2}, {3}};
  float out[2][1], lse[2];

  heed::AttentionInputs<float> inputs;
  inputs.shape = {.B = 1, .H = 1, .Hkv = 1, .T = 2, .S = 3, .D = 2, .Dv = 1};
  inputs.q = heed::dense_view(&q[0][0], 1, 2, 2);
  inputs.k = heed::dense_view(&k[0][0], 1, 3, 2);
  inputs.v = heed::dense_view(&v[0][0], 1, 3, 1);
  heed::attention_forward(inputs,
                          {.out = heed::dense_view(&out[0][0], 1, 2, 1), .lse = lse, .weights = {}},
                          heed::default_executor());

  std::printf("%g %g\n", out[0][0], out[1][0]);
  return std::abs(out[0][0] - 2) < 1e-6f && std::abs(out[1][0] - 2) < 1e-6f ? 0 : 1;
}
