#include "tests/core/tables.h"

#include <cmath>
#include <numeric>

namespace heed::testing {
namespace {

int64_t bytes_of(Element element) {
  switch (element) {
    case Element::kFloat32:
    case Element::kInt32:
      return 4;
    case Element::kBFloat16:
    case Element::kFloat16:
      return 2;
    case Element::kFloat64:
    case Element::kInt64:
      return 8;
    case Element::kBool:
      break;
  }
  return 1;
}

template <class X>
void put_as(X x, std::byte* to) {
  std::memcpy(to, &x, sizeof x);
}
void put(Element element, double x, std::byte* to) {
  switch (element) {
    case Element::kFloat32:
      return put_as(static_cast<float>(x), to);
    case Element::kBFloat16:
      return put_as(ref::from_double<BFloat16>(x), to);
    case Element::kFloat16:
      return put_as(ref::from_double<Float16>(x), to);
    case Element::kFloat64:
      return put_as(x, to);
    case Element::kInt32:
      return put_as(static_cast<int32_t>(x), to);
    case Element::kInt64:
      return put_as(static_cast<int64_t>(x), to);
    case Element::kBool:
      return put_as(x != 0, to);
  }
}

double rounded_to(Element element, double x) {
  if (element == Element::kBFloat16) return ref::to_double(ref::from_double<BFloat16>(x));
  if (element == Element::kFloat16) return ref::to_double(ref::from_double<Float16>(x));
  return static_cast<float>(x);  // doubles too: kernels hold floats
}

// Strides and the offset of the first element, in elements.
struct Place {
  std::vector<int64_t> strides;
  int64_t first = 0, elements = 1;
};

Place dense(const std::vector<int64_t>& sizes) {
  Place place = {.strides = std::vector<int64_t>(sizes.size())};
  for (std::size_t i = sizes.size(); i-- > 0;) {
    place.strides[i] = place.elements;
    place.elements *= sizes[i];
  }
  return place;
}

// Any order, sign and gaps; a dimension may be broadcast.
Place scattered(const std::vector<int64_t>& sizes, std::mt19937& random) {
  const auto one_in = [&](int n) { return random() % n == 0; };
  Place place = {.strides = std::vector<int64_t>(sizes.size())};
  std::vector<std::size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  for (std::size_t i : order) {
    if (one_in(8)) continue;
    const int64_t stride = place.elements + (one_in(2) ? 3 : 0);
    const int64_t steps = std::max<int64_t>(sizes[i], 1) - 1;
    const bool reversed = one_in(4);
    place.strides[i] = reversed ? -stride : stride;
    if (reversed) place.first += steps * stride;
    place.elements += steps * stride;
  }
  return place;
}

}  // namespace

program::Table Tables::add(Element element, std::vector<int64_t> sizes, const Draw& draw) {
  const bool any = options_.layout == Layout::kRandom;
  const Place place = any ? scattered(sizes, random_) : dense(sizes);
  const int64_t size = bytes_of(element);
  std::byte* data = nullptr;
  if (options_.layout == Layout::kEndsAtPage || options_.layout == Layout::kBeginsAtPage) {
    const bool ends = options_.layout == Layout::kEndsAtPage;
    pages_.emplace_back(place.elements * size, ends ? GuardedMemory::Side::kEndsAtPage
                                                    : GuardedMemory::Side::kBeginsAtPage);
    data = pages_.back().data();
  } else {
    data = memory_.emplace_back(place.elements * size).data();
  }
  data += place.first * size;
  int64_t count = 1;
  for (int64_t n : sizes) count *= n;
  for (int64_t i = 0; i < count; ++i) {
    int64_t offset = 0, rest = i;
    for (std::size_t d = sizes.size(); d-- > 0; rest /= sizes[d]) {
      offset += rest % sizes[d] * place.strides[d];
    }
    put(element, draw(), data + offset * size);
  }
  return program::Table(program::TableView{data, element, std::move(sizes), place.strides});
}

program::Table Tables::add_floats(std::vector<int64_t> sizes, const Draw& draw) {
  const Element element = options_.as_double ? Element::kFloat64 : options_.floats;
  return add(element, std::move(sizes), [&] { return rounded_to(options_.floats, draw()); });
}

program::Table Tables::floats(std::vector<int64_t> sizes, double amplitude) {
  std::normal_distribution<double> normal(0, amplitude);
  return add_floats(std::move(sizes), [&] {
    const double x = normal(random_);
    return options_.exact ? std::round(x * 8) / 8 : x;
  });
}

program::Table Tables::either(std::vector<int64_t> sizes, double often, double seldom) {
  return add_floats(std::move(sizes), [&] { return random_() % 4 == 0 ? seldom : often; });
}

program::Table Tables::integers(std::vector<int64_t> sizes, int64_t low, int64_t high) {
  std::uniform_int_distribution<int64_t> uniform(low, high);
  const Element element = random_() % 2 == 0 ? Element::kInt32 : Element::kInt64;
  return add(element, std::move(sizes), [&] { return static_cast<double>(uniform(random_)); });
}

program::Table Tables::booleans(std::vector<int64_t> sizes, double probability) {
  std::bernoulli_distribution is(probability);
  return add(Element::kBool, std::move(sizes), [&] { return is(random_) ? 1.0 : 0.0; });
}

}  // namespace heed::testing
