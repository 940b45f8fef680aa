// What the modules' tests share: comparison, and what a module prints.
#pragma once

#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "tests/ops/testing.h"

namespace heed::nn {

inline void expect_near(const at::Tensor& actual, const at::Tensor& expected,
                        const std::string& what = "output", double atol = 2e-5) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  EXPECT_TRUE(actual.allclose(expected, 1e-4, atol))
      << what << ": off by " << (actual - expected).abs().max().item<double>();
}

// Of one loss over all results, for each leaf.
inline void expect_same_gradients(const std::vector<at::Tensor>& actual,
                                  const std::vector<at::Tensor>& expected,
                                  const std::vector<at::Tensor>& leaves, double atol = 2e-5) {
  at::Tensor actual_loss = at::zeros({}), expected_loss = at::zeros({});
  for (size_t i = 0; i < actual.size(); ++i) {
    const at::Tensor direction = at::randn(expected[i].sizes());
    actual_loss = actual_loss + (actual[i] * direction).sum();
    expected_loss = expected_loss + (expected[i] * direction).sum();
  }
  const auto got = torch::autograd::grad({actual_loss}, leaves, {}, /*retain_graph=*/true);
  const auto wanted = torch::autograd::grad({expected_loss}, leaves, {}, /*retain_graph=*/true);
  for (size_t i = 0; i < leaves.size(); ++i) {
    expect_near(got[i], wanted[i], "gradient " + std::to_string(i), atol);
  }
}

template <class Module>
std::string printed(const Module& module) {
  std::ostringstream stream;
  module->pretty_print(stream);
  return stream.str();
}

}  // namespace heed::nn
