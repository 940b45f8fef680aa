// Programs written in C++ as expressions:
//
//   using namespace heed::program;
//   Table slope(slopes, {H});
//   ScoreProgram alibi(score() - slope[h()] * (t() - s()), t() >= s());
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "heed/core/program/program.h"

namespace heed::program {

struct ExpressionNode;  // private to expression.cpp

class Expression {
 public:
  Expression(double value);  // constants: implicit, so that 2 * t() reads as it should
  Expression(float value);
  Expression(int64_t value);
  Expression(int value);
  Expression(bool value);
  explicit Expression(std::shared_ptr<const ExpressionNode> node) : node_(std::move(node)) {}
  const std::shared_ptr<const ExpressionNode>& node() const { return node_; }

 private:
  std::shared_ptr<const ExpressionNode> node_;
};

Expression score();  // dot
Expression b();
Expression h();
Expression t();
Expression s();

// A captured table, by reference: `data` must outlive every call that uses it.
class Table {
 public:
  Table(const float* data, std::vector<int64_t> sizes);  // dense
  Table(const double* data, std::vector<int64_t> sizes);
  Table(const int64_t* data, std::vector<int64_t> sizes);
  Table(const int32_t* data, std::vector<int64_t> sizes);
  Table(const bool* data, std::vector<int64_t> sizes);
  explicit Table(TableView view);

  Expression operator[](const Expression& index) const;  // rank 1
  Expression at(std::initializer_list<Expression> indices) const;
  Expression value() const;  // rank 0

 private:
  std::shared_ptr<const TableView> view_;
};

Expression operator+(const Expression&, const Expression&);
Expression operator-(const Expression&, const Expression&);
Expression operator*(const Expression&, const Expression&);
Expression operator/(const Expression&, const Expression&);  // true division
Expression floor_div(const Expression&, const Expression&);  // Python's //
Expression operator%(const Expression&, const Expression&);  // Python's %
Expression operator-(const Expression&);
Expression operator<(const Expression&, const Expression&);
Expression operator<=(const Expression&, const Expression&);
Expression operator>(const Expression&, const Expression&);
Expression operator>=(const Expression&, const Expression&);
Expression operator==(const Expression&, const Expression&);
Expression operator!=(const Expression&, const Expression&);
Expression operator&(const Expression&, const Expression&);
Expression operator|(const Expression&, const Expression&);
Expression operator&&(const Expression&, const Expression&);
Expression operator||(const Expression&, const Expression&);
Expression operator!(const Expression&);
Expression abs(const Expression&);
Expression exp(const Expression&);
Expression log(const Expression&);
Expression tanh(const Expression&);
Expression sigmoid(const Expression&);
Expression sqrt(const Expression&);
Expression floor(const Expression&);
Expression pow(const Expression&, const Expression&);
Expression min(const Expression&, const Expression&);
Expression max(const Expression&, const Expression&);
Expression where(const Expression&, const Expression&, const Expression&);
Expression to_int(const Expression&);
Expression to_float(const Expression&);

// A program and the tables it captured, in the order of program->tables().
struct ScoreProgram {
  explicit ScoreProgram(const Expression& score);
  ScoreProgram(const Expression& score, const Expression& mask);
  static ScoreProgram masked(const Expression& mask);  // score = dot

  std::shared_ptr<const Program> program;
  std::vector<TableView> tables;
};

}  // namespace heed::program
