// What each operation is called, how it is written and what it does to numbers.
#include "heed/core/program/operation.h"

#include <cmath>
#include <limits>

namespace heed::program {
namespace {

constexpr Operation kOperations[] = {
    {"dot", 0},
    {"b", 0},
    {"h", 0},
    {"t", 0},
    {"s", 0},
    {"constant", 0},
    {"gradient", 0},
    {"lookup", 0},
    {"-", 1, Level::kUnary},
    {"abs", 1},
    {"exp", 1},
    {"log", 1},
    {"tanh", 1},
    {"sigmoid", 1},
    {"sqrt", 1},
    {"floor", 1},
    {"~", 1, Level::kUnary},
    {"cast", 1},
    {"+", 2, Level::kSum},
    {"-", 2, Level::kSum},
    {"*", 2, Level::kProduct},
    {"/", 2, Level::kProduct},
    {"//", 2, Level::kProduct},
    {"%", 2, Level::kProduct},
    {"pow", 2},
    {"min", 2},
    {"max", 2},
    {"<", 2, Level::kCompare},
    {"<=", 2, Level::kCompare},
    {"==", 2, Level::kCompare},
    {"!=", 2, Level::kCompare},
    {"&", 2, Level::kAnd},
    {"|", 2, Level::kOr},
    {"where", 3},
};
static_assert(std::size(kOperations) == static_cast<std::size_t>(Op::kWhere) + 1);

double cast(Type type, double x) {
  switch (type) {
    case Type::kBool:
      return x != 0;
    case Type::kInt:
      return std::trunc(x);
    case Type::kFloat:
      return x;
  }
  return x;
}

double least(double x, double y) {
  if (std::isnan(x) || std::isnan(y)) return std::numeric_limits<double>::quiet_NaN();
  return x < y ? x : y;
}

double apply_unary(Op op, Type type, double x) {
  switch (op) {
    case Op::kNeg:
      return -x;
    case Op::kAbs:
      return std::abs(x);
    case Op::kExp:
      return std::exp(x);
    case Op::kLog:
      return std::log(x);
    case Op::kTanh:
      return std::tanh(x);
    case Op::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Op::kSqrt:
      return std::sqrt(x);
    case Op::kFloor:
      return std::floor(x);
    case Op::kNot:
      return x == 0;
    default:
      return cast(type, x);
  }
}

double apply_binary(Op op, double x, double y) {
  switch (op) {
    case Op::kAdd:
      return x + y;
    case Op::kSub:
      return x - y;
    case Op::kMul:
      return x * y;
    case Op::kDiv:
      return x / y;
    case Op::kFloorDiv:
      return std::floor(x / y);
    case Op::kMod:
      return x - y * std::floor(x / y);
    case Op::kPow:
      return std::pow(x, y);
    case Op::kMin:
      return least(x, y);
    case Op::kMax:
      return -least(-x, -y);
    case Op::kLess:
      return x < y;
    case Op::kLessEqual:
      return x <= y;
    case Op::kEqual:
      return x == y;
    case Op::kNotEqual:
      return x != y;
    case Op::kAnd:
      return x != 0 && y != 0;
    default:
      return x != 0 || y != 0;
  }
}

}  // namespace

const Operation& operation(Op op) { return kOperations[static_cast<std::size_t>(op)]; }

const char* name_of(Type type) {
  constexpr const char* kNames[] = {"bool", "int", "float"};
  return kNames[static_cast<std::size_t>(type)];
}

double apply(Op op, Type type, const double* args) {
  switch (operation(op).arity) {
    case 1:
      return apply_unary(op, type, args[0]);
    case 2:
      return apply_binary(op, args[0], args[1]);
    default:
      return args[0] != 0 ? args[1] : args[2];
  }
}

}  // namespace heed::program
