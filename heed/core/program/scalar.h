// The scalar interpreter, in double: what a program's nodes are for one query-key pair. The
// reference that the kernels are tested against.
#pragma once

#include <cstdint>
#include <vector>

#include "heed/core/program/program.h"

namespace heed::program {

struct Pair {
  int64_t b, h, t, s;
  double dot, gradient;
};

// Where an index points in a dimension of `size` elements: negative ones count from the end, and
// what is outside then (it can be where a pair is not visible) is the nearest inside.
int64_t wrapped_index(double index, int64_t size);

// The element `offset` elements after the first.
double read_element(const TableView& table, int64_t offset);

double evaluate(const Graph& graph, const std::vector<TableView>& tables, int node,
                const Pair& pair);

// Of kLookup's element in the table, were it dense.
int64_t dense_offset(const Graph& graph, const std::vector<TableView>& tables, int lookup,
                     const Pair& pair);

}  // namespace heed::program
