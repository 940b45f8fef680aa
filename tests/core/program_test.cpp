// Score programs without tables' values: types, simplification, the printed form, derivatives.
#include "heed/core/program/program.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "heed/core/program/expression.h"

namespace heed::program {
namespace {

// Where a program is evaluated. Tables hold numbers that depend on their indices alone, multiples
// of 1/8, so that most of what the tests compute is exact.
struct Point {
  double b = 1, h = 2, t = 3, s = 4, dot = 0.75;
  int bumped = -1;  // a lookup to which `bump` is added
  double bump = 0;
};

double element(Type type, int table, const std::vector<double>& indices) {
  uint64_t hash = static_cast<uint64_t>(table) + 1;
  for (const double index : indices) {
    hash = (hash ^ static_cast<uint64_t>(static_cast<int64_t>(index) + 1000)) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  if (type == Type::kBool) return static_cast<double>(hash % 2);
  if (type == Type::kInt) return static_cast<double>(hash % 7);
  return static_cast<double>(hash % 13 + 2) / 8;
}

double compute(const Node& node, double x, double y, double z) {
  switch (node.op) {
    case Op::kNeg:
      return -x;
    case Op::kAbs:
      return std::fabs(x);
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
    case Op::kCast:
      return node.type == Type::kInt ? std::trunc(x) : node.type == Type::kBool ? x != 0 : x;
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
      return std::isnan(x + y) && (std::isnan(x) || std::isnan(y)) ? NAN : std::fmin(x, y);
    case Op::kMax:
      return std::isnan(x + y) && (std::isnan(x) || std::isnan(y)) ? NAN : std::fmax(x, y);
    case Op::kLess:
      return x < y;
    case Op::kLessEqual:
      return x <= y;
    case Op::kEqual:
      return x == y;
    case Op::kNotEqual:
      return x != y;
    case Op::kAnd:
      return x * y;
    case Op::kOr:
      return std::fmax(x, y);
    case Op::kWhere:
      return x != 0 ? y : z;
    default:
      ADD_FAILURE() << "not an operation";
      return NAN;
  }
}

double evaluate(const Graph& graph, int root, const Point& point) {
  std::vector<double> values(static_cast<std::size_t>(root) + 1);
  for (int id = 0; id <= root; ++id) {
    const Node& node = graph[id];
    std::vector<double> args;
    for (const int arg : node.args) args.push_back(values[arg]);
    args.resize(std::max<std::size_t>(args.size(), 3));
    switch (node.op) {
      case Op::kDot:
        values[id] = point.dot;
        break;
      case Op::kBatch:
        values[id] = point.b;
        break;
      case Op::kHead:
        values[id] = point.h;
        break;
      case Op::kQuery:
        values[id] = point.t;
        break;
      case Op::kKey:
        values[id] = point.s;
        break;
      case Op::kConstant:
        values[id] = node.value;
        break;
      case Op::kGradient:
        values[id] = 1;
        break;
      case Op::kLookup:
        args.resize(node.args.size());
        values[id] = element(node.type, node.table, args) + (id == point.bumped ? point.bump : 0);
        break;
      default:
        values[id] = compute(node, args[0], args[1], args[2]);
    }
  }
  return values[root];
}

std::shared_ptr<const Program> score_of(const std::string& expression) {
  return parse("i: int[1]\nf: float[1]\np: bool[1]\nscore = " + expression);
}

// The printed score alone.
std::string simplified(const std::string& expression) {
  const std::string text = score_of(expression)->str();
  return text.substr(text.find("score = ") + 8);
}

std::string error_of(const std::string& text) {
  try {
    parse(text);
  } catch (const ProgramError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Graph, TypesArePromoted) {
  Graph graph;
  const int dot = graph.leaf(Op::kDot), t = graph.leaf(Op::kQuery), s = graph.leaf(Op::kKey);
  const int before = graph.add(Op::kLess, {s, t}), same = graph.add(Op::kEqual, {t, s});
  const auto type = [&](Op op, std::vector<int> args) { return graph[graph.add(op, args)].type; };
  EXPECT_EQ(type(Op::kAdd, {before, same}), Type::kInt);
  EXPECT_EQ(type(Op::kNeg, {before}), Type::kInt);
  EXPECT_EQ(type(Op::kMul, {before, dot}), Type::kFloat);
  EXPECT_EQ(type(Op::kAdd, {t, s}), Type::kInt);
  EXPECT_EQ(type(Op::kDiv, {t, s}), Type::kFloat);
  EXPECT_EQ(type(Op::kFloorDiv, {t, s}), Type::kInt);
  EXPECT_EQ(type(Op::kMod, {t, dot}), Type::kFloat);
  EXPECT_EQ(type(Op::kExp, {t}), Type::kFloat);
  EXPECT_EQ(type(Op::kFloor, {t}), Type::kFloat);
  EXPECT_EQ(type(Op::kAbs, {t}), Type::kInt);
  EXPECT_EQ(type(Op::kMin, {t, dot}), Type::kFloat);
  EXPECT_EQ(type(Op::kMax, {t, before}), Type::kInt);
  EXPECT_EQ(type(Op::kWhere, {before, t, s}), Type::kInt);
  EXPECT_EQ(type(Op::kWhere, {before, before, dot}), Type::kFloat);
  EXPECT_EQ(type(Op::kEqual, {t, dot}), Type::kBool);
  EXPECT_EQ(type(Op::kAnd, {before, same}), Type::kBool);
  EXPECT_EQ(type(Op::kAdd, {before, graph.constant(0, Type::kInt)}), Type::kInt);
  const int half = graph.constant(0.5, Type::kFloat);
  EXPECT_EQ(type(Op::kWhere, {before, graph.add(Op::kWhere, {before, t, half}), s}), Type::kFloat);
  const int five = graph.constant(5, Type::kInt);
  EXPECT_EQ(type(Op::kPow, {t, five}), Type::kInt);
  EXPECT_EQ(type(Op::kPow, {five, t}), Type::kFloat);
}

TEST(Graph, WrongTypesAreNamed) {
  Graph graph;
  const int dot = graph.leaf(Op::kDot), t = graph.leaf(Op::kQuery);
  const auto error = [&](const std::function<void()>& run) -> std::string {
    try {
      run();
    } catch (const ProgramError& thrown) {
      return thrown.what();
    }
    return "no error";
  };
  EXPECT_EQ(error([&] {
              graph.add(Op::kAnd, {dot, t});
            }),
            "operation &: expected bool, bool, got float, int");
  EXPECT_EQ(error([&] { graph.add(Op::kNot, {t}); }), "operation ~: expected bool, got int");
  EXPECT_EQ(error([&] {
              graph.add(Op::kWhere, {t, t, t});
            }),
            "operation where: expected a bool condition and two values, got int, int, int");
  EXPECT_EQ(error([&] { graph.add(Op::kAdd, {t}); }), "operation +: expected 2 arguments, got 1");
  EXPECT_EQ(error([&] {
              graph.lookup(3, Type::kFloat, {t, dot});
            }),
            "index 1 of table3: expected int, got float");
  EXPECT_EQ(error([&] { Program(graph, dot, t, {}); }), "mask: expected bool, got int");
}

TEST(Graph, EqualNodesAreOne) {
  Graph graph;
  const int dot = graph.leaf(Op::kDot), t = graph.leaf(Op::kQuery);
  EXPECT_EQ(graph.leaf(Op::kDot), dot);
  EXPECT_EQ(graph.add(Op::kMul, {dot, t}), graph.add(Op::kMul, {t, dot}));
  EXPECT_EQ(graph.add(Op::kAdd, {dot, t}), graph.add(Op::kAdd, {graph.cast(t, Type::kFloat), dot}));
  EXPECT_EQ(graph.constant(NAN, Type::kFloat), graph.constant(-NAN, Type::kFloat));
  EXPECT_NE(graph.constant(1, Type::kFloat), graph.constant(1, Type::kInt));
}

TEST(Graph, Simplifies) {
  const std::pair<const char*, const char*> cases[] = {
      // Constants, in double; not what has no value.
      {"2 * 3 + 4 ** 2", "22.0"},
      {"7 // 2 + -7 % 3", "5.0"},
      {"exp(1.0)", "2.718281828459045"},
      {"1 / 3", "0.3333333333333333"},
      {"float(1 // 0)", "float(1 // 0)"},
      {"1.0 / 0", "1.0 / 0.0"},
      {"log(-1.0)", "log(-1.0)"},
      {"log(0.0)", "-inf"},
      {"int(-2.5) + 0.5", "-1.5"},
      // Floats.
      {"dot + 0", "dot"},
      {"0 + dot", "dot"},
      {"1 * dot / 1", "dot"},
      {"--dot", "dot"},
      {"-1 * dot", "-dot"},
      {"0 * dot", "0.0 * dot"},
      {"dot - dot", "dot - dot"},
      {"dot / 50", "0.02 * dot"},
      {"f[t] / 49", "table1[t] / 49.0"},
      {"f[t] / 4", "0.25 * table1[t]"},
      {"dot / 0", "dot / 0.0"},
      {"2 * (3 * dot)", "6.0 * dot"},
      {"dot + dot", "2.0 * dot"},
      {"dot + -f[t]", "dot - table1[t]"},
      {"dot + f[t] * -2", "dot - 2.0 * table1[t]"},
      {"dot - -3", "dot + 3.0"},
      {"-(dot - f[s])", "table1[s] - dot"},
      {"dot ** 2 + dot ** 1 + dot ** 0", "dot + dot * dot + 1.0"},
      {"f[s] * dot", "dot * table1[s]"},
      {"abs(-dot)", "abs(dot)"},
      {"floor(floor(dot))", "floor(dot)"},
      {"floor(t)", "float(t)"},
      {"dot // 1", "floor(dot)"},
      {"min(dot, dot)", "dot"},
      // Integers.
      {"dot * ((t + 5) - s + 3)", "dot * (t - s + 8)"},
      {"dot * (8 - (s - t))", "dot * (t - s + 8)"},
      {"dot * (2 * (t - s) + s + s)", "dot * (2 * t)"},
      {"dot * (t - s - t)", "-(dot * s)"},
      {"dot * (5 - s - t)", "dot * (5 - t - s)"},
      {"dot * (t - t + 3)", "3.0 * dot"},
      {"dot * (0 * i[t])", "0.0 * dot"},
      {"dot * (t // 1)", "dot * t"},
      {"dot * int(float(t))", "dot * t"},
      {"dot * int(s < t) + 0 * int(dot)", "dot * (s < t)"},
      {"dot * ((s < t) + 3 - 3)", "dot * (s < t)"},
      {"float((s < t) + 0)", "float(s < t)"},
      {"2.0 * t + 2 * t", "2 * t + 2.0 * t"},
      {"2 * t + 2.0 * t", "2 * t + 2.0 * t"},
      // Logic.
      {"where(t > 3, dot, dot)", "dot"},
      {"where(3 > 2, t, 0.5)", "float(t)"},
      {"where(t < t + 1, dot, 0)", "dot"},
      {"where(~(s < t), dot, 0)", "where(t <= s, dot, 0.0)"},
      {"where(~(dot < 1), dot, 0)", "where(dot < 1.0, 0.0, dot)"},
      {"where(~~(p[t] & true | false), 1, 0)", "float(table2[t])"},
      {"where(p[t] | ~p[t], dot, 0)", "dot"},
      {"where(s < t & s < t, dot, 0)", "error"},
      {"where((s < t) & (t <= s), dot, 0)", "0.0"},
      {"where(p[t] & p[t], dot, 0)", "where(table2[t], dot, 0.0)"},
      {"where(p[t], where(p[t], dot, 3), 4)", "where(table2[t], dot, 4.0)"},
      {"where(bool(t), dot, 0)", "where(t != 0, dot, 0.0)"},
      {"where(t < 5.0, dot, 0)", "where(t < 5, dot, 0.0)"},
      {"where(t == 5.5, dot, 0)", "where(t == 5.5, dot, 0.0)"},
      {"where(p[t], nan, dot)", "where(table2[t], nan, dot)"},
  };
  for (const auto& [text, expected] : cases) {
    SCOPED_TRACE(text);
    if (std::string(expected) == "error") {
      EXPECT_THROW(simplified(text), ProgramError);
    } else {
      EXPECT_EQ(simplified(text), expected);
    }
  }
}

TEST(Program, ScoreOfMinusInfinityIsMask) {
  const std::pair<const char*, const char*> cases[] = {
      {"score = where(s <= t, dot, -inf)", "score = dot\nmask = s <= t"},
      {"score = where(s > t, -inf, dot)", "score = dot\nmask = s <= t"},
      {"score = where(~(s <= t), -inf, dot)", "score = dot\nmask = s <= t"},
      {"score = dot + where(s <= t, 0, -inf)", "score = dot\nmask = s <= t"},
      {"score = h + (dot + where(s <= t, 1, -inf)) * 1 - b",
       "score = h + (dot + 1.0) - b\nmask = s <= t"},
      {"score = where(s <= t, 2, -inf) - dot", "score = 2.0 - dot\nmask = s <= t"},
      {"score = where(s <= t, where(5 < s, dot * 2, -inf), -inf)",
       "score = 2.0 * dot\nmask = (5 < s) & (s <= t)"},
      {"score = where(s <= t, dot, -inf)\nmask = 5 < s", "score = dot\nmask = (5 < s) & (s <= t)"},
      {"score = where(s <= t, dot, inf)", "score = where(s <= t, dot, inf)"},
      {"score = where(s <= t, t, -inf)", "score = float(t)\nmask = s <= t"},
      {"mask = s <= t | true", "error"},
      {"mask = (s <= t) | true", "score = dot"},
      {"mask = false", "score = dot\nmask = false"},
  };
  for (const auto& [text, expected] : cases) {
    SCOPED_TRACE(text);
    if (std::string(expected) == "error") {
      EXPECT_THROW(parse(text), ProgramError);
    } else {
      EXPECT_EQ(parse(text)->str(), expected);
    }
  }
}

TEST(Program, KnowsWhetherItReadsDot) {
  EXPECT_TRUE(parse("score = dot")->is_identity());
  EXPECT_TRUE(parse("score = dot + 1 * 0")->is_identity());
  EXPECT_FALSE(parse("score = dot * 2")->is_identity());
  EXPECT_TRUE(parse("score = dot * 2")->reads_dot());
  EXPECT_FALSE(score_of("f[t]")->reads_dot());
  EXPECT_TRUE(parse("score = 1.0\nmask = dot > 0")->reads_dot());
  EXPECT_EQ(parse("score = 1.0\nmask = dot > 0")->d_dot(), -1);
  EXPECT_EQ(score_of("f[t] + floor(dot)")->d_dot(), -1);
  EXPECT_GE(score_of("f[t] + dot")->d_dot(), 0);
}

TEST(Program, ChecksLookups) {
  Graph graph;
  const int t = graph.leaf(Op::kQuery);
  const int score = graph.lookup(1, Type::kFloat, {t});
  const auto error = [&](std::vector<TableType> tables) -> std::string {
    try {
      Program(graph, score, -1, std::move(tables));
    } catch (const ProgramError& thrown) {
      return thrown.what();
    }
    return "no error";
  };
  const TableType bias = {Type::kFloat, 1};
  EXPECT_EQ(error({bias}), "table1: expected one of 1 tables");
  EXPECT_EQ(error({bias, {Type::kFloat, 2}}),
            "table1: expected float[2], got a lookup in float[1]");
  EXPECT_EQ(error({bias, bias}), "no error");
  EXPECT_THROW(Program(graph, -1, score, {bias, bias}), ProgramError);
  const int gradient = graph.leaf(Op::kGradient);
  EXPECT_THROW(Program(graph, gradient, -1, {}), ProgramError);
}

// Ten programs that people use, in C++, and how they print.
struct Known {
  const char* name;
  ScoreProgram program;
  const char* text;
};

std::vector<Known> known_programs() {
  static const float floats[1] = {};
  static const int64_t ints[1] = {};
  const Table slope(floats, {1}), bias(floats, {1, 1}), grid(floats, {1, 1, 1});
  const Table position(floats, {1, 1, 1, 1});
  const Table documents(ints, {1, 1}), prefix(ints, {1});
  const Expression distance = t() - s(), far = abs(distance);
  const Expression log_bucket = 8 + to_int(log(far / 8) / std::log(128. / 8) * 8);
  const Expression bucket = where(s() > t(), 16, 0) + where(far < 8, far, min(log_bucket, 15));
  const auto row = [](const Expression& x) { return floor_div(x, 14); };
  const auto column = [](const Expression& x) { return x % 14; };
  const Expression near = abs(row(t()) - row(s())) <= 3 && abs(column(t()) - column(s())) <= 3;
  return {
      {"causal", ScoreProgram::masked(t() >= s()), "score = dot\nmask = s <= t"},
      {"window", ScoreProgram::masked(t() >= s() && t() - s() <= 255),
       "score = dot\nmask = (s <= t) & (t - s <= 255)"},
      {"prefix", ScoreProgram::masked(s() <= t() || s() < prefix[b()]),
       "table0: int[1]\nscore = dot\nmask = (s < table0[b]) | (s <= t)"},
      {"documents", ScoreProgram::masked(documents.at({b(), t()}) == documents.at({b(), s()})),
       "table0: int[2]\nscore = dot\nmask = table0[b, t] == table0[b, s]"},
      {"ALiBi", ScoreProgram(score() - slope[h()] * distance, t() >= s()),
       "table0: float[1]\nscore = dot - table0[h] * (t - s)\nmask = s <= t"},
      {"T5", ScoreProgram(score() + bias.at({h(), bucket})),
       "table0: float[2]\n"
       "x0 = abs(t - s)\n"
       "score = dot + table0[h, where(t < s, 16, 0) + where(x0 < 8, x0, "
       "min(int(8.0 * (log(0.125 * x0) / 2.772588722239781)) + 8, 15))]"},
      {"soft cap", ScoreProgram(50 * tanh(score() / 50)), "score = 50.0 * tanh(0.02 * dot)"},
      {"Transformer-XL", ScoreProgram(score() + position.at({b(), h(), t(), distance + 511})),
       "table0: float[4]\nscore = dot + table0[b, h, t, t - s + 511]"},
      {"neighbourhood", ScoreProgram::masked(near),
       "score = dot\nmask = (abs(t // 14 - s // 14) <= 3) & (abs(t % 14 - s % 14) <= 3)"},
      {"image bias",
       ScoreProgram(score() +
                    grid.at({h(), row(t()) - row(s()) + 13, column(t()) - column(s()) + 13})),
       "table0: float[3]\n"
       "score = dot + table0[h, t // 14 - s // 14 + 13, t % 14 - s % 14 + 13]"},
  };
}

TEST(Program, KnownProgramsPrintAndParse) {
  for (const Known& known : known_programs()) {
    SCOPED_TRACE(known.name);
    const std::string text = known.program.program->str();
    EXPECT_EQ(text, known.text);
    EXPECT_EQ(parse(text)->str(), text);
    EXPECT_EQ(known.program.tables.size(), known.program.program->tables().size());
  }
}

// Whatever the order in which they were written.
TEST(Program, EqualProgramsHaveEqualGraphs) {
  const auto one = parse("f: float[1]\ny = f[s + 3]\nx = tanh(dot)\nscore = y * x + f[t] * x");
  const auto other = parse("g: float[1]\na = g[t]\nc = tanh(dot)\nscore = c * a + c * g[3 + s]");
  EXPECT_EQ(one->str(), other->str());
  ASSERT_EQ(one->graph().size(), other->graph().size());
  for (int id = 0; id < one->graph().size(); ++id) EXPECT_EQ(one->graph()[id], other->graph()[id]);
  EXPECT_EQ(one->d_dot(), other->d_dot());
}

TEST(Parse, ReadsFreely) {
  const auto program = parse(
      "# comment\r\n\n"
      "slope :float [1]   # as in the paper\n"
      "unused: int[0]\n"
      "far=( t -\n  # inside\n  s )\n"
      "score = +dot- slope[ h ]*far ** 1   - neg(-2)\n"
      "mask = t>=s\n\n");
  EXPECT_EQ(program->str(),
            "table0: float[1]\ntable1: int[0]\nscore = dot - table0[h] * (t - s) - 2.0\n"
            "mask = s <= t");
  EXPECT_EQ(parse("mask = t < s")->str(), "score = dot\nmask = t < s");
}

TEST(Parse, PrecedenceIsPythons) {
  const std::pair<const char*, const char*> cases[] = {
      {"dot - 2 - f[t] * dot", "dot - 2.0 - dot * table1[t]"},
      {"dot - (f[s] - f[t])", "dot - (table1[s] - table1[t])"},
      {"-dot ** 2", "-(dot * dot)"},
      {"f[t] ** -f[s] ** dot", "pow(table1[t], -pow(table1[s], dot))"},
      {"dot / f[t] / f[s]", "dot / table1[t] / table1[s]"},
      {"dot / (f[t] / f[s])", "dot / (table1[t] / table1[s])"},
      {"float(p[t] | p[s] & p[h])", "float(table2[t] | table2[h] & table2[s])"},
      {"float(t + 1 < s * 2)", "float(t + 1 < 2 * s)"},
      {"float((p[t] | p[s]) & p[h])", "float(table2[h] & (table2[t] | table2[s]))"},
      {"float((t < s) == p[h])", "float(table2[h] == (t < s))"},
      {"-(dot + f[t]) * f[s]", "-(table1[s] * (dot + table1[t]))"},
      {"dot % f[t] // f[s]", "dot % table1[t] // table1[s]"},
  };
  for (const auto& [text, expected] : cases) {
    SCOPED_TRACE(text);
    EXPECT_EQ(simplified(text), expected);
    EXPECT_EQ(parse(score_of(text)->str())->str(), score_of(text)->str());
  }
}

TEST(Parse, NumbersSurvive) {
  for (const double value : {0.1, 1e30, 1e300, 5e-324, -1e-7, 3.0, 1.0 / 3, 123456789.0, -0.0}) {
    Graph graph;
    const int constant = graph.constant(value, Type::kFloat);
    const Program program(graph, constant, -1, {});
    const auto again = parse(program.str());
    EXPECT_EQ(again->graph()[again->score()].value, value) << program.str();
    EXPECT_EQ(again->str(), program.str());
  }
  EXPECT_EQ(simplified("inf"), "inf");
  EXPECT_EQ(simplified("-inf"), "-inf");
  EXPECT_EQ(simplified("nan"), "nan");
  EXPECT_EQ(simplified(".5 + 2."), "2.5");
  EXPECT_EQ(simplified("float(9007199254740991)"), "9007199254740991.0");
}

TEST(Parse, ErrorsNameThePlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"score = dot + foo", "line 1, column 15: unknown name 'foo'; known: dot, b, h, t, s"},
      {"f: float[1]\ng = f[t]\nscore = x",
       "line 3, column 9: unknown name 'x'; known: dot, b, h, t, s, f, g"},
      {"score = relu(dot)",
       "line 1, column 9: unknown function 'relu'; known: neg, abs, exp, log, tanh, sigmoid, sqrt, "
       "floor, min, max, pow, where, int, float, bool"},
      {"score = min(dot)", "line 1, column 9: min: expected 2 arguments, got 1"},
      {"score = exp(dot, dot)", "line 1, column 9: exp: expected 1 argument, got 2"},
      {"score = dot +", "line 1, column 14: expected a value, got the end"},
      {"score = dot +\nmask = t < s",
       "line 1, column 14: expected a value, got the end of the line"},
      {"score = (dot", "line 1, column 13: expected ')', got the end"},
      {"score = dot)", "line 1, column 12: expected an operator or the end of the line, got ')'"},
      {"score = dot dot",
       "line 1, column 13: expected an operator or the end of the line, got 'dot'"},
      {"score = dot $ 2", "line 1, column 13: unexpected '$'"},
      {"score = dot \x01", "line 1, column 13: unexpected character"},
      {"score = . + 2", "line 1, column 9: unexpected '.'"},
      {"score = 3x", "line 1, column 10: a name right behind a number"},
      {"score = 1e999", "line 1, column 9: number out of range"},
      {"score = 99999999999999999", "line 1, column 9: integer too large"},
      {"f: float[1]\nscore = f", "line 2, column 9: table 'f': expected 1 index in [], got none"},
      {"f: float[2]\nscore = f[t]", "line 2, column 9: table 'f': expected 2 indices in [], got 1"},
      {"f: float[1]\nscore = f[dot]",
       "line 2, column 9: index 0 of table0: expected int, got float"},
      {"x = t\nscore = x[t]", "line 2, column 9: 'x' is not a table"},
      {"x = t\nx = s\nscore = dot", "line 2, column 1: 'x' is defined twice"},
      {"score = dot\nscore = dot", "line 2, column 1: 'score' is defined twice"},
      {"exp = dot", "line 1, column 1: 'exp' has a meaning of its own"},
      {"t = 3", "line 1, column 1: 't' has a meaning of its own"},
      {"3 = t", "line 1, column 1: expected a name, got '3'"},
      {"score dot", "line 1, column 7: expected '=' behind 'score', got 'dot'"},
      {"f: double[1]", "line 1, column 4: expected int, float or bool, got 'double'"},
      {"f: float[-1]", "line 1, column 10: expected a rank from 0 to 16, got '-'"},
      {"f: float[99]", "line 1, column 10: expected a rank from 0 to 16, got '99'"},
      {"score = b < t < s", "line 1, column 15: comparisons do not chain: write (a < b) & (b < c)"},
      {"score = dot & t", "line 1, column 13: operation &: expected bool, bool, got float, int"},
      {"mask = t", "line 1, column 1: mask: expected bool, got int"},
      {"x = t", "line 1, column 6: expected a line 'score = ...' or 'mask = ...'"},
      {"", "line 1, column 1: expected a line 'score = ...' or 'mask = ...'"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(error_of(text), "program " + std::string(expected)) << text;
  }
}

TEST(Parse, HostileTextIsRefused) {
  const auto repeated = [](const std::string& part, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += part;
    return text;
  };
  EXPECT_EQ(error_of("score = " + repeated("(", 100000)),
            "program line 1, column 209: nested too deeply");
  EXPECT_EQ(error_of("score = " + repeated("-", 100000)),
            "program line 1, column 209: nested too deeply");
  EXPECT_EQ(error_of("score = " + repeated("abs(", 100000)),
            "program line 1, column 809: nested too deeply");
  EXPECT_EQ(error_of("score = " + repeated("dot **", 100000)),
            "program line 1, column 1209: nested too deeply");
  EXPECT_EQ(error_of(std::string(5000000, ' ')),
            "program: expected at most 4194304 characters, got 5000000");
  EXPECT_EQ(error_of("score = dot" + repeated(" % t // h", 20000)),
            "program: expected at most 32768 operations, got 40003");
  EXPECT_EQ(error_of("score = dot" + repeated(" % t // h", 200000)).substr(0, 14),
            "program line 1");
}

TEST(Parse, SameTextIsSameProgram) {
  const std::string text = "score = dot * 0.125";
  const auto first = parse(text);
  EXPECT_EQ(parse(text), first);
  std::vector<std::thread> threads;
  std::vector<std::shared_ptr<const Program>> seen(4);
  for (auto& program : seen) {
    threads.emplace_back([&program] {
      for (int i = 0; i < 400; ++i) program = parse("score = dot + " + std::to_string(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& program : seen) EXPECT_EQ(program, seen[0]);
  for (int i = 0; i < 1500; ++i) parse("score = dot - " + std::to_string(i));
  EXPECT_EQ(parse(text)->str(), first->str());
}

TEST(Program, LongLinesAreSplit) {
  std::string text = "f: float[1]\nx = dot\n", previous = "x";
  for (int i = 0; i < 100; ++i) {
    const std::string name = "y" + std::to_string(i);
    text += name + " = tanh(" + previous + ") * f[" + std::to_string(i) + "]\n";
    previous = name;
  }
  const auto program = parse(text + "score = " + previous);
  EXPECT_EQ(parse(program->str())->str(), program->str());
  std::size_t longest = 0, start = 0;
  for (std::size_t end; (end = program->str().find('\n', start)) != std::string::npos;
       start = end + 1) {
    longest = std::max(longest, end - start);
  }
  EXPECT_LT(longest, 400u);
}

TEST(Program, PartsInMessagesAreShort) {
  Graph graph;
  const int t = graph.leaf(Op::kQuery), s = graph.leaf(Op::kKey);
  EXPECT_EQ(text_of(graph, graph.add(Op::kMul, {graph.add(Op::kSub, {t, s}), s})), "s * (t - s)");
  int chain = graph.leaf(Op::kDot), shared = chain;
  for (int i = 0; i < 100000; ++i) chain = graph.add(Op::kTanh, {chain});
  for (int i = 0; i < 300; ++i) {
    shared = graph.add(Op::kTanh, {graph.add(Op::kMul, {shared, graph.add(Op::kExp, {shared})})});
  }
  EXPECT_LT(text_of(graph, chain).size(), 400u);
  EXPECT_LT(text_of(graph, shared).size(), 400u);
  EXPECT_EQ(text_of(graph, chain).substr(0, 10), "tanh(tanh(");
}

TEST(Expression, SharedPartsStayLinear) {
  Expression x = score();
  for (int i = 0; i < 200; ++i) x = tanh(x) * x + x;
  const ScoreProgram program(x);
  EXPECT_LT(program.program->graph().size(), 4000);
  EXPECT_EQ(parse(program.program->str())->str(), program.program->str());
}

TEST(Expression, OperatorsAreWhatTheySay) {
  static const float floats[1] = {};
  const Table table(floats, {1});
  const Expression f = table[t()], g = table[s()], x = score();
  const std::pair<Expression, const char*> cases[] = {
      {f + g, "table0[t] + table0[s]"},
      {f - g, "table0[t] - table0[s]"},
      {f * g, "table0[t] * table0[s]"},
      {f / g, "table0[t] / table0[s]"},
      {floor_div(f, g), "table0[t] // table0[s]"},
      {f % g, "table0[t] % table0[s]"},
      {-f, "-table0[t]"},
      {pow(f, g), "pow(table0[t], table0[s])"},
      {min(f, x), "min(dot, table0[t])"},
      {max(f, x), "max(dot, table0[t])"},
      {where(f < x, f, g), "where(table0[t] < dot, table0[t], table0[s])"},
      {to_float(f > x), "float(dot < table0[t])"},
      {to_float(f <= x), "float(table0[t] <= dot)"},
      {to_float(f >= x), "float(dot <= table0[t])"},
      {to_float(f == x), "float(dot == table0[t])"},
      {to_float(f != x), "float(dot != table0[t])"},
      {to_float(x < 1 && f < 2), "float((dot < 1.0) & (table0[t] < 2.0))"},
      {to_float(x < 1 || f < 2), "float((dot < 1.0) | (table0[t] < 2.0))"},
      {to_float(!(f < 2)), "float(~(table0[t] < 2.0))"},
      {abs(f) + exp(f), "abs(table0[t]) + exp(table0[t])"},
      {log(f) + tanh(f), "log(table0[t]) + tanh(table0[t])"},
      {sigmoid(f) + sqrt(f), "sigmoid(table0[t]) + sqrt(table0[t])"},
      {floor(f) * to_int(x), "floor(table0[t]) * int(dot)"},
      {b() + h() * 2.5f, "b + 2.5 * h"},
      {x * true, "dot"},
  };
  for (const auto& [expression, expected] : cases) {
    const std::string text = ScoreProgram(expression).program->str();
    EXPECT_EQ(text.substr(text.find("score = ") + 8), expected);
  }
}

TEST(Expression, DeepChainsNeedNoStack) {
  Expression unused = score();
  for (int i = 0; i < 300000; ++i) unused = tanh(unused);
  static const float floats[1] = {};
  const Table bias(floats, {1});
  Expression x = score();
  for (int i = 0; i < 10000; ++i) x = i % 2 == 0 ? x * bias[h()] : tanh(x);
  const ScoreProgram program(x);
  EXPECT_EQ(parse(program.program->str())->str(), program.program->str());
}

TEST(Expression, TablesAreCapturedOnce) {
  static const float floats[6] = {};
  static const bool flags[2] = {};
  const Table bias(floats, {2, 3}), same(floats, {2, 3}), flat(floats, {6});
  const Table flag(flags, {2}), number(floats, {});
  const ScoreProgram program(
      score() + bias.at({h(), t()}) + same.at({h(), s()}) + flat[t()] + number.value(), flag[s()]);
  ASSERT_EQ(program.tables.size(), 4u);
  EXPECT_EQ(program.tables[0].strides, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(program.tables[3].data, flags);
  EXPECT_EQ(program.program->tables(),
            (std::vector<TableType>{
                {Type::kFloat, 2}, {Type::kFloat, 1}, {Type::kFloat, 0}, {Type::kBool, 1}}));
  EXPECT_THROW(bias[t()], ProgramError);
}

// Derivatives by dot and by each lookup against differences.
double difference(const Program& program, const Point& point, int lookup) {
  constexpr double kStep = 1e-5;
  double sides[2];
  for (const int side : {0, 1}) {
    Point moved = point;
    const double step = side == 0 ? -kStep : kStep;
    if (lookup < 0) {
      moved.dot += step;
    } else {
      moved.bumped = lookup;
      moved.bump = step;
    }
    sides[side] = evaluate(program.graph(), program.score(), moved);
  }
  return (sides[1] - sides[0]) / (2 * kStep);
}

void expect_derivative(const std::shared_ptr<const Program>& program, const Point& point) {
  const Graph& graph = program->graph();
  const auto expect_near = [](double got, double expected) {
    EXPECT_NEAR(got, expected, 1e-6 * (1 + std::abs(expected)));
  };
  const double d_dot = program->d_dot() < 0 ? 0 : evaluate(graph, program->d_dot(), point);
  expect_near(d_dot, difference(*program, point, -1));
  for (int id = 0; id <= program->score(); ++id) {
    if (graph[id].op != Op::kLookup || graph[id].type != Type::kFloat) continue;
    double got = 0;
    for (const TableGradient& table : program->table_gradients()) {
      if (table.lookup == id) got += evaluate(graph, table.value, point);
    }
    expect_near(got, difference(*program, point, id));
  }
}

TEST(Derivative, EqualsDifferences) {
  const char* const programs[] = {
      "dot",
      "2 * dot - f[h] * (t - s)",
      "50 * tanh(dot / 50) + f[t - s + 5]",
      "dot * dot + exp(-dot) * f[t]",
      "log(1 + exp(dot)) + sqrt(f[t]) * sqrt(dot + 9)",
      "sigmoid(dot) * sigmoid(-f[s])",
      "abs(dot - f[t]) + abs(f[s])",
      "min(dot, f[t]) - max(dot * f[s], 0.3)",
      "min(max(dot, -0.4), 0.7) * f[h]",
      "where(dot < f[t], dot * f[s], f[t] / (dot + 9))",
      "where(t < s, dot, 3 * dot) + where(s < 3, f[t] * dot, f[s])",
      "pow(f[t], dot) + pow(dot + 9, f[s])",
      "pow(dot, 3) + pow(dot + 9, -1) + pow(abs(dot) + 1, 2.5)",
      "dot % f[t] + (9 + dot) % (f[s] + 1)",
      "floor(dot) * dot + dot // 1 * f[t]",
      "float(int(f[t] + 0.03)) * dot + int(dot) * f[s]",
      "dot / f[t] / (dot + 9) / f[s]",
      "(dot + f[t]) * (dot - f[t]) * tanh(dot + f[t])",
      "tanh(tanh(tanh(dot * f[t]) * f[s]) + dot)",
      "where(p[t], where(p[s], exp(dot), dot), where(p[s], f[t], f[s] * dot)) * dot",
      "-dot + neg(f[h]) - (f[h] - dot) * f[0]",
      "f[i[t]] * dot + f[i[s]] * f[i[t]]",
  };
  std::mt19937 random(1);
  std::uniform_real_distribution<double> dots(-2, 2);
  for (std::string text : programs) {
    if (const auto at = text.find("f0"); at != std::string::npos) text.replace(at, 2, "0");
    const auto program = score_of(text);
    for (int i = 0; i < 40; ++i) {
      const auto index = [&] { return static_cast<double>(random() % 9); };
      const Point point = {
          .b = index(), .h = index(), .t = index(), .s = index(), .dot = dots(random)};
      SCOPED_TRACE(text + " at dot = " + std::to_string(point.dot));
      expect_derivative(program, point);
    }
  }
}

TEST(Derivative, TiesAndCorners) {
  const auto slope = [](const std::string& text, double dot) {
    const auto program = score_of(text);
    return evaluate(program->graph(), program->d_dot(), {.dot = dot});
  };
  EXPECT_EQ(slope("abs(dot)", 0), 0);
  EXPECT_EQ(slope("abs(dot)", -3), -1);
  EXPECT_EQ(slope("max(dot, 1)", 1), 0.5);
  EXPECT_EQ(slope("min(dot, 1)", 1), 0.5);
  EXPECT_EQ(slope("min(dot, 1)", 2), 0);
  EXPECT_EQ(slope("pow(dot + 0 * f[t], f[t] * 0)", 0), 0);
  EXPECT_TRUE(std::isnan(slope("max(dot, 1) * dot", NAN)));
}

TEST(Derivative, UntakenBranchesGiveNothing) {
  const std::pair<const char*, double> cases[] = {
      {"where(dot > 0, log(dot), 0)", 0},
      {"where(dot > 0, sqrt(dot), 0)", 0},
      {"where(dot > 0, 1 / dot, 3 * dot)", 0},
      {"where(dot > 0, where(dot < 5, 2 * sqrt(dot) * exp(dot), 1), 0)", 0},
      {"where(dot > 0, log(dot), 0) + where(dot > 1, log(dot), dot)", 0},
      {"where(p[t], where(dot > 0, log(dot), 0), where(dot > 0, log(dot), 7))", 0},
      {"max(log(dot), -3)", 0},
      {"where(dot < 100, dot, exp(exp(dot) * f[t]))", 99},
  };
  for (const auto& [text, dot] : cases) {
    SCOPED_TRACE(text);
    const auto program = score_of(text);
    const Point point = {.dot = dot};
    EXPECT_TRUE(std::isfinite(evaluate(program->graph(), program->d_dot(), point)));
    for (const TableGradient& table : program->table_gradients()) {
      EXPECT_EQ(evaluate(program->graph(), table.value, point), 0);
    }
  }
  const auto program = score_of("where(dot > 0, log(dot), 5 * dot)");
  EXPECT_EQ(evaluate(program->graph(), program->d_dot(), {.dot = 0}), 5);
  EXPECT_EQ(evaluate(program->graph(), program->d_dot(), {.dot = 4}), 0.25);
}

TEST(Derivative, BranchesThatExcludeEachOtherAreOneWhere) {
  const auto program = parse("score = where(t < s, 2 * dot, 3 * dot)");
  const Node& d_dot = program->graph()[program->d_dot()];
  ASSERT_EQ(d_dot.op, Op::kWhere);
  EXPECT_EQ(program->graph()[d_dot.args[1]].op, Op::kMul);
  EXPECT_EQ(program->graph()[d_dot.args[2]].op, Op::kMul);
}

TEST(Derivative, IsLinearInSize) {
  std::string text = "x0 = dot\n";
  for (int i = 1; i <= 300; ++i) {
    const std::string previous = "x" + std::to_string(i - 1);
    text += "x" + std::to_string(i) + " = where(t < s, tanh(" + previous + "), " + previous + ")\n";
  }
  EXPECT_LT(parse(text + "score = x300")->graph().size(), 300 * 12);
}

// Random expressions as text, with what they are worth computed beside.
struct Random {
  std::string text, mirrored;  // mirrored: with the arguments of commutative operations exchanged
  std::function<double(const Point&)> value;
};

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  Random make(Type type, int depth) {
    if (depth == 0 || below(8) == 0) return leaf(type);
    if (type == Type::kBool) return boolean(depth - 1);
    return type == Type::kInt ? integer(depth - 1) : real(depth - 1);
  }

 private:
  using Unary = double (*)(double);
  using Binary = double (*)(double, double);

  unsigned below(unsigned count) { return static_cast<unsigned>(random_()) % count; }

  static Random terminal(const std::string& text, std::function<double(const Point&)> value) {
    return {text, text, std::move(value)};
  }
  static Random unary(const std::string& name, const Random& x, Unary run) {
    return {name + "(" + x.text + ")", name + "(" + x.mirrored + ")",
            [=](const Point& point) { return run(x.value(point)); }};
  }
  static Random binary(const std::string& op, const Random& x, const Random& y, Binary run,
                       bool commutes = false) {
    const Random& first = commutes ? y : x;
    const Random& second = commutes ? x : y;
    return {"(" + x.text + " " + op + " " + y.text + ")",
            "(" + first.mirrored + " " + op + " " + second.mirrored + ")",
            [=](const Point& point) { return run(x.value(point), y.value(point)); }};
  }
  static Random call(const std::string& name, const Random& x, const Random& y, Binary run) {
    return {name + "(" + x.text + ", " + y.text + ")",
            name + "(" + y.mirrored + ", " + x.mirrored + ")",
            [=](const Point& point) { return run(x.value(point), y.value(point)); }};
  }
  static Random where(const Random& c, const Random& x, const Random& y) {
    const auto join = [](const std::string& a, const std::string& d, const std::string& e) {
      return "where(" + a + ", " + d + ", " + e + ")";
    };
    return {
        join(c.text, x.text, y.text), join(c.mirrored, x.mirrored, y.mirrored),
        [=](const Point& point) { return c.value(point) != 0 ? x.value(point) : y.value(point); }};
  }

  Random leaf(Type type) {
    if (type == Type::kBool) {
      if (below(4) == 0) return terminal("true", [](const Point&) { return 1.0; });
      return lookup("p", type, 2);
    }
    if (type == Type::kInt) {
      switch (below(5)) {
        case 0:
          return terminal("t", [](const Point& point) { return point.t; });
        case 1:
          return terminal("s", [](const Point& point) { return point.s; });
        case 2:
          return terminal("h", [](const Point& point) { return point.h; });
        case 3:
          return lookup("i", type, 0);
        default: {
          const int value = static_cast<int>(below(7)) - 2;
          return terminal(std::to_string(value), [=](const Point&) { return value; });
        }
      }
    }
    if (below(3) == 0) return terminal("dot", [](const Point& point) { return point.dot; });
    if (below(2) == 0) return lookup("f", type, 1);
    const double values[] = {0, 1, -1, 2, 0.5, -0.25, 3, -1.5};
    const double value = values[below(8)];
    return terminal(std::to_string(value), [=](const Point&) { return value; });
  }
  Random lookup(const std::string& name, Type type, int table) {
    const bool by_query = below(2) == 0;
    return terminal(name + (by_query ? "[t]" : "[s]"), [=](const Point& point) {
      return element(type, table, {by_query ? point.t : point.s});
    });
  }

  Type any_number() { return below(2) == 0 ? Type::kInt : Type::kFloat; }

  Random boolean(int depth) {
    const Type type = any_number();
    const auto two = [&](const std::string& op, Type of, Binary run, bool commutes) {
      return binary(op, make(of, depth), make(of, depth), run, commutes);
    };
    switch (below(8)) {
      case 0:
        return two(
            "<", type, [](double x, double y) { return x < y ? 1.0 : 0; }, false);
      case 1:
        return two(
            "<=", type, [](double x, double y) { return x <= y ? 1.0 : 0; }, false);
      case 2:
        return two(
            ">", type, [](double x, double y) { return x > y ? 1.0 : 0; }, false);
      case 3:
        return two(
            "==", Type::kInt, [](double x, double y) { return x == y ? 1.0 : 0; }, true);
      case 4:
        return two(
            "&", Type::kBool, [](double x, double y) { return x * y; }, true);
      case 5:
        return two(
            "|", Type::kBool, [](double x, double y) { return std::fmax(x, y); }, true);
      case 6:
        return unary("bool", make(type, depth), [](double x) { return x != 0 ? 1.0 : 0; });
      default:
        return unary("~", make(Type::kBool, depth), [](double x) { return 1 - x; });
    }
  }

  Random arithmetic(Type type, int depth) {
    const Type left = type == Type::kInt && below(4) == 0 ? Type::kBool : type;
    const Type right = type == Type::kFloat ? any_number() : Type::kInt;
    const Random x = make(left, depth), y = make(right, depth);
    switch (below(6)) {
      case 0:
      case 1:
        return binary(
            "+", x, y, [](double p, double q) { return p + q; }, true);
      case 2:
      case 3:
        return binary("-", x, y, [](double p, double q) { return p - q; });
      case 4:
        return binary(
            "*", x, y, [](double p, double q) { return p * q; }, true);
      default:
        return unary("-", x, [](double p) { return -p; });
    }
  }

  Random choice(Type type, int depth) {
    const Random x = make(type, depth), y = make(type == Type::kInt ? type : any_number(), depth);
    switch (below(4)) {
      case 0:
        return call("min", x, y, [](double p, double q) {
          return std::isnan(p) || std::isnan(q) ? NAN : std::fmin(p, q);
        });
      case 1:
        return call("max", x, y, [](double p, double q) {
          return std::isnan(p) || std::isnan(q) ? NAN : std::fmax(p, q);
        });
      case 2:
        return unary("abs", x, [](double p) { return std::fabs(p); });
      default:
        return where(make(Type::kBool, depth), x, y);
    }
  }

  Random integer(int depth) {
    switch (below(8)) {
      case 0:
        return unary("int", make(Type::kBool, depth), [](double x) { return x; });
      case 1:
        return binary("//", make(Type::kInt, depth), terminal("3", [](const Point&) { return 3; }),
                      [](double x, double y) { return std::floor(x / y); });
      case 2:
        return binary("%", make(Type::kInt, depth), terminal("4", [](const Point&) { return 4; }),
                      [](double x, double y) { return x - y * std::floor(x / y); });
      case 3:
        return choice(Type::kInt, depth);
      default:
        return arithmetic(Type::kInt, depth);
    }
  }

  Random real(int depth) {
    switch (below(8)) {
      case 0:
        return unary("tanh", make(any_number(), depth), [](double x) { return std::tanh(x); });
      case 1:
        return binary("/", make(any_number(), depth), make(any_number(), depth),
                      [](double x, double y) { return x / y; });
      case 2:
        return unary("float", make(Type::kInt, depth), [](double x) { return x; });
      case 3:
        return choice(Type::kFloat, depth);
      default:
        return arithmetic(Type::kFloat, depth);
    }
  }

  std::mt19937 random_;
};

bool is_close(double x, double y) {
  if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
  return x == y || std::abs(x - y) <= 1e-9 * (1 + std::abs(x));
}

TEST(Random, SimplificationKeepsValues) {
  for (unsigned seed = 0; seed < 3000; ++seed) {
    const Random random = Generator(seed).make(Type::kFloat, 1 + static_cast<int>(seed % 6));
    SCOPED_TRACE(std::to_string(seed) + ": " + random.text);
    const auto program = score_of("float(" + random.text + ")");
    for (int i = 0; i < 12; ++i) {
      const Point point = {
          .h = 1.0 + i % 3, .t = i % 5 + 0.0, .s = i % 4 + 0.0, .dot = (i * 5 % 11 - 4) / 8.0};
      const double got = evaluate(program->graph(), program->score(), point);
      const double expected = random.value(point);
      ASSERT_TRUE(is_close(got, expected)) << got << " instead of " << expected << " by\n"
                                           << program->str();
    }
  }
}

TEST(Random, PrintedFormIsReadBack) {
  for (unsigned seed = 0; seed < 3000; ++seed) {
    const Random random = Generator(seed).make(Type::kFloat, 1 + static_cast<int>(seed % 7));
    SCOPED_TRACE(std::to_string(seed) + ": " + random.text);
    const auto program = score_of("float(" + random.text + ")");
    const auto again = parse(program->str());
    ASSERT_EQ(again->str(), program->str());
    ASSERT_EQ(again->graph().size(), program->graph().size());
    for (int id = 0; id < again->graph().size(); ++id) {
      if (std::isnan(again->graph()[id].value)) continue;
      ASSERT_EQ(again->graph()[id], program->graph()[id]);
    }
    const auto mirrored = score_of("float(" + random.mirrored + ")");
    ASSERT_EQ(mirrored->str(), program->str());
  }
}

}  // namespace
}  // namespace heed::program
