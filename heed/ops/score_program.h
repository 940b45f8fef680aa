// Score programs whose tables are torch tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "heed/core/program/bound.h"
#include "heed/core/program/expression.h"

namespace heed {

// A tensor in an expression: bias.at({h(), t() - s() + T}). Any rank, strides and number type; a
// floating-point one that requires a gradient gets it.
program::Table table(const at::Tensor& tensor);

// A program as it crosses the dispatcher: its printed form, and its tables in that order.
struct TensorProgram {
  std::string text;  // empty: none
  std::vector<at::Tensor> tables;

  TensorProgram() = default;
  TensorProgram(std::string printed, std::vector<at::Tensor> captured)
      : text(std::move(printed)), tables(std::move(captured)) {}
  // Of an expression whose tables all came from table(): implicit, for AttentionOptions.
  TensorProgram(const program::ScoreProgram& program);
};

// ProgramError becomes a c10::Error that starts "[attention] program: ".

// The structure of a program that there is.
std::shared_ptr<const program::Program> parse(const TensorProgram& program);

// Null where there is none.
std::unique_ptr<const program::BoundProgram> bind(const TensorProgram& program,
                                                  const program::Sizes& sizes);

}  // namespace heed
