// The order in which values are computed.
#include "heed/core/program/values.h"

#include <algorithm>

namespace heed::program {

// Depth first, with a stack of its own: programs may be deep.
std::vector<int> order_of(const Values& values) {
  enum Mark : char { kNew, kOpen, kDone };
  std::vector<Mark> marks(values.size(), kNew);
  std::fill_n(marks.begin(), kFirstFreeSlot, kDone);
  std::vector<int> order, open;
  for (int sink : values.sinks) {
    open.push_back(sink);
    while (!open.empty()) {
      const int i = open.back();
      if (marks[i] == kNew) {
        marks[i] = kOpen;
        const size_t first = open.size();
        values.for_each_read(values.items[i], [&](int arg) {
          if (marks[arg] == kNew) open.push_back(arg);
        });
        std::reverse(open.begin() + first, open.end());
        continue;
      }
      open.pop_back();
      if (marks[i] == kOpen) order.push_back(i);
      marks[i] = kDone;
    }
  }
  return order;
}

}  // namespace heed::program
