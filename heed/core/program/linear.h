// Integer expressions as sums: constant + query * t + key * s + factors of other nodes. Seen so,
// t - s keeps what interval arithmetic on t and s apart would lose.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "heed/core/program/graph.h"

namespace heed::program {

// Integers throughout, whatever the node's type, but for at most one real term of factor +-1, last:
// adding it rounds once, so that the sign of the sum is right.
struct Linear {
  static constexpr int kMostTerms = 4;
  struct Term {
    int node;
    double factor;
    bool operator==(const Term&) const = default;
  };

  double constant = 0, query = 0, key = 0;
  bool integer = true;
  int count = 0;
  std::array<Term, kMostTerms> terms = {};  // by rising node, but a real one last

  // += factor * other; false where that is too many terms or would mix reals.
  bool add(const Linear& other, double factor);
  bool is_constant() const { return count == 0 && query == 0 && key == 0; }
  const Term* begin() const { return terms.data(); }
  const Term* end() const { return terms.data() + count; }
};

// The form of node `id`, given those of all before; one that is no sum is a term of its own.
Linear linear_form(const Graph& graph, int id, const std::vector<Linear>& forms);

// Left minus right of a comparison; none where both are real.
std::optional<Linear> difference(const Node& comparison, const std::vector<Linear>& forms);

}  // namespace heed::program
