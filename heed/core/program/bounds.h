// The check of a program against its tables and sizes before it runs.
#pragma once

#include <vector>

#include "heed/core/program/program.h"
#include "heed/core/program/ranges.h"

namespace heed::program {

// ProgramError: number, types or ranks differ from what the program declares.
void check_tables(const Program& program, const std::vector<TableView>& tables);

// For each node of a graph: for each index of a lookup whether it has to be guarded, on pairs
// visible or not (Index::guarded).
using Guards = std::vector<std::vector<bool>>;

// ProgramError: for a pair in `region` that the mask lets be seen, an index of score or mask can
// leave its table, or an integer 2^24. `graph` begins with the program's.
Guards check_bounds(const Program& program, const Graph& graph, const Ranges& ranges,
                    const std::vector<TableView>& tables, const Region& region);

}  // namespace heed::program
