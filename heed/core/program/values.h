// The values of one output of a program, on their way from the graph's nodes to instructions: what
// they vary with is known, registers are not.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <tuple>
#include <vector>

#include "heed/core/program/bytecode.h"

namespace heed::program {

// An instruction whose arguments are other values.
struct Value {
  Code code = Code::kCopy;
  Space space = Space::kHead;
  std::array<int, 3> args = {-1, -1, -1};
  float constant = 0;          // kConstant
  int64_t query = 0, key = 0;  // kAffine
  int lookup = -1;             // kLookup, kAddToTable: into Values::lookups
};

struct LookupIndex {
  int value;
  int64_t size, stride;
  bool guarded;
};
struct LookupValue {
  Lookup lookup;
  std::vector<LookupIndex> indices;
};

inline Space join(Space a, Space b) {
  if (a == b || b == Space::kHead) return a;
  return a == Space::kHead ? b : Space::kPair;
}

struct Values {
  // The first ones are those of the given slots.
  static constexpr int kDot = kDotSlot, kGradient = kGradientSlot, kWeight = kWeightSlot;

  std::vector<Value> items = std::vector<Value>(kFirstFreeSlot, {.space = Space::kPair});
  std::vector<LookupValue> lookups;
  std::vector<int> sinks;  // what has effects, in the order in which it runs
  // The last sink, which no other value reads, is written to a given slot. -1: there is none.
  int result = -1;
  int result_slot = kDotSlot;

  int size() const { return static_cast<int>(items.size()); }

  int append(const Value& value) {
    items.push_back(value);
    return size() - 1;
  }
  // The same value as an equal one that there is. Not once values have been changed.
  int add(const Value& value) {
    const Key key = {value.code,  value.args, std::bit_cast<uint32_t>(value.constant),
                     value.query, value.key,  value.lookup};
    const auto [at, added] = known.try_emplace(key, size());
    return added ? append(value) : at->second;
  }

  Value operation(Code code, std::initializer_list<int> args) const {
    Value value = {.code = code};
    int n = 0;
    for (int arg : args) {
      value.args[n++] = arg;
      value.space = join(value.space, items[arg].space);
    }
    return value;
  }
  static Value constant(double x) {
    return {.code = Code::kConstant, .constant = static_cast<float>(x)};
  }
  bool is_constant(int value, double x) const {
    return items[value].code == Code::kConstant && items[value].constant == x;
  }

  template <class Body>
  void for_each_read(const Value& value, const Body& body) const {
    for (int arg : value.args) {
      if (arg >= 0) body(arg);
    }
    if (value.lookup < 0) return;
    for (const LookupIndex& index : lookups[value.lookup].indices) body(index.value);
  }

 private:
  using Key = std::tuple<Code, std::array<int, 3>, uint32_t, int64_t, int64_t, int>;
  std::map<Key, int> known;
};

// Values that sinks need, after all that they read.
std::vector<int> order_of(const Values& values);

}  // namespace heed::program
