// From a graph to bytecode: each value once for what it varies with, in as few registers as may be.
#pragma once

#include <vector>

#include "heed/core/program/bytecode.h"
#include "heed/core/program/gradient_blocks.h"
#include "heed/core/program/program.h"

namespace heed::program {

struct CompileInputs {
  const Graph& graph;
  int score;  // node; kDot itself: identity
  int mask;   // node that does not read kDot, or -1
  int d_dot;  // node, or -1
  const std::vector<TableGradient>& table_gradients;
  const std::vector<TableView>& tables;
  const Guards& guards;
  const std::vector<GradientBlock>& blocks;  // by table
};

Bytecode compile(const CompileInputs& inputs);

}  // namespace heed::program
