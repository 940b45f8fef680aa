// The check of a program against its tables and sizes before it runs.
#pragma once

#include <vector>

#include "heed/core/program/program.h"
#include "heed/core/program/ranges.h"

namespace heed::program {

// ProgramError: number, types or ranks differ from what the program declares.
void check_tables(const Program& program, const std::vector<TableView>& tables);

// ProgramError: for a pair in `region` that the mask lets be seen, an index of score or mask can
// leave its table, or an integer 2^24. `graph` begins with the program's. Returns for each node
// whether it is a lookup that has to be guarded, visible or not (Lookup::guarded).
std::vector<bool> check_bounds(const Program& program, const Graph& graph, const Ranges& ranges,
                               const std::vector<TableView>& tables, const Region& region);

}  // namespace heed::program
