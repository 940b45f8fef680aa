// From a program to bytecode: its outputs as values, fused, in registers.
#include "heed/core/program/compile.h"

#include <algorithm>
#include <iterator>
#include <memory>

#include "heed/core/program/fuse.h"
#include "heed/core/program/lower.h"
#include "heed/core/program/values.h"

namespace heed::program {
namespace {

struct Storage {
  std::vector<Lookup> lookups;
  std::vector<Index> indices;
  std::vector<Instruction> code[3][kSpaces];
  int32_t slots[kSpaces] = {};
};

// For each value the outputs that need it.
std::vector<uint64_t> needs_of(const Values& values, const std::vector<int>& order) {
  std::vector<uint64_t> needs(values.size(), 0);
  for (int sink : values.sinks) {
    const Value& value = values.items[sink];
    const bool of_dot = sink == values.result && values.result_slot == kGradientSlot;
    needs[sink] = value.code == Code::kAddToTable
                      ? table_bit(values.lookups[value.lookup].lookup.output)
                  : of_dot ? kGradientBit
                           : ~uint64_t{0};
  }
  for (auto at = order.rbegin(); at != order.rend(); ++at) {
    values.for_each_read(values.items[*at], [&](int arg) { needs[arg] |= needs[*at]; });
  }
  return needs;
}

// Slots of pairs are free again after their value's last reader; others are few and kept.
std::vector<Register> registers_of(const Values& values, const std::vector<int>& order,
                                   int32_t (&slots)[kSpaces]) {
  std::vector<int> last_reader(values.size(), -1);
  for (int i : order) {
    values.for_each_read(values.items[i], [&](int arg) { last_reader[arg] = i; });
  }
  std::vector<Register> registers(values.size(), {Space::kPair, values.result_slot});
  for (int i = 0; i < kFirstFreeSlot; ++i) registers[i].slot = i;
  std::vector<int32_t> free;
  int32_t next = kFirstFreeSlot;
  for (int i : order) {
    values.for_each_read(values.items[i], [&](int arg) {
      const bool own = values.items[arg].space == Space::kPair && arg >= kFirstFreeSlot;
      if (!own || last_reader[arg] != i) return;
      free.push_back(registers[arg].slot);
      last_reader[arg] = -1;  // once, even if it is read twice
    });
    const Space space = values.items[i].space;
    if (space != Space::kPair) {
      registers[i] = {space, slots[static_cast<int>(space)]++};
    } else if (last_reader[i] >= 0 && !free.empty()) {
      registers[i].slot = free.back();
      free.pop_back();
    } else if (last_reader[i] >= 0) {
      registers[i].slot = next++;
    }
  }
  int32_t& of_pairs = slots[static_cast<int>(Space::kPair)];
  of_pairs = std::max(of_pairs, next - kFirstFreeSlot);
  return registers;
}

int32_t put_lookup(const LookupValue& from, const std::vector<Register>& registers,
                   Storage& storage) {
  Lookup lookup = from.lookup;
  lookup.first_index = static_cast<int32_t>(storage.indices.size());
  lookup.indices = static_cast<int32_t>(from.indices.size());
  for (const LookupIndex& index : from.indices) {
    storage.indices.push_back({registers[index.value], index.size, index.stride, index.guarded});
  }
  storage.lookups.push_back(lookup);
  return static_cast<int32_t>(storage.lookups.size()) - 1;
}

void put_section(Values values, Storage& storage, std::vector<Instruction>* code) {
  fuse(values);
  const std::vector<int> order = order_of(values);
  const std::vector<uint64_t> needs = needs_of(values, order);
  const std::vector<Register> registers = registers_of(values, order, storage.slots);
  for (int i : order) {
    const Value& value = values.items[i];
    Instruction in = {.code = value.code,
                      .to = registers[i],
                      .args = {},
                      .lookup = -1,
                      .value = value.constant,
                      .query = value.query,
                      .key = value.key,
                      .needed = needs[i]};
    for (int n = 0; n < 3; ++n) {
      if (value.args[n] >= 0) in.args[n] = registers[value.args[n]];
    }
    if (value.lookup >= 0) in.lookup = put_lookup(values.lookups[value.lookup], registers, storage);
    code[static_cast<int>(value.space)].push_back(in);
  }
}

template <class Item>
Slice<Item> slice(const std::vector<Item>& items) {
  return {items.data(), static_cast<int64_t>(items.size())};
}

}  // namespace

Bytecode compile(const CompileInputs& inputs) {
  const Graph& graph = inputs.graph;
  Bytecode result;
  result.has_mask = inputs.mask >= 0;
  result.identity = graph[inputs.score].op == Op::kDot;
  result.identity_gradient = inputs.table_gradients.empty() && inputs.d_dot >= 0 &&
                             graph[inputs.d_dot].op == Op::kGradient;
  result.table_outputs = static_cast<int32_t>(inputs.table_gradients.size());

  const auto storage = std::make_shared<Storage>();
  auto& [score, mask, gradient] = storage->code;
  if (!result.identity) put_section(lower_score(inputs), *storage, score);
  if (result.has_mask) put_section(lower_mask(inputs), *storage, mask);
  if (!result.identity_gradient) put_section(lower_gradient(inputs), *storage, gradient);

  for (int space = 0; space < kSpaces; ++space) {
    result.score.code[space] = slice(score[space]);
    result.mask.code[space] = slice(mask[space]);
    result.gradient.code[space] = slice(gradient[space]);
  }
  std::copy(std::begin(storage->slots), std::end(storage->slots), std::begin(result.slots));
  result.lookups = slice(storage->lookups);
  result.indices = slice(storage->indices);
  result.storage = storage;
  return result;
}

}  // namespace heed::program
