// Tensors as tables: number types that the core has, memory that lives as long as the view.
#include "heed/ops/score_program.h"

#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <string>
#include <utility>

namespace heed {
namespace {

// The nearest type that the core reads.
at::ScalarType table_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
    case at::kDouble:
    case at::kBFloat16:
    case at::kHalf:
    case at::kInt:
    case at::kLong:
    case at::kBool:
      return type;
    default:
      return c10::isIntegralType(type, /*includeBool=*/false) ? at::kLong : at::kFloat;
  }
}

Element element_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return Element::kFloat64;
    case at::kBFloat16:
      return Element::kBFloat16;
    case at::kHalf:
      return Element::kFloat16;
    case at::kInt:
      return Element::kInt32;
    case at::kLong:
      return Element::kInt64;
    case at::kBool:
      return Element::kBool;
    default:
      return Element::kFloat32;
  }
}

program::TableView table_view(const at::Tensor& tensor) {
  auto owner = std::make_shared<const at::Tensor>(tensor.to(table_type(tensor.scalar_type())));
  return {.data = owner->const_data_ptr(),
          .element = element_of(owner->scalar_type()),
          .sizes = owner->sizes().vec(),
          .strides = owner->strides().vec(),
          .owner = owner};
}

template <class Body>
auto with_prefix(const Body& body) {
  try {
    return body();
  } catch (const ProgramError& error) {
    C10_THROW_ERROR(Error, std::string("[attention] program: ") + error.what());
  }
}

}  // namespace

program::Table table(const at::Tensor& tensor) { return program::Table(table_view(tensor)); }

TensorProgram::TensorProgram(const program::ScoreProgram& program) : text(program.program->str()) {
  for (const program::TableView& view : program.tables) {
    TORCH_CHECK(view.owner != nullptr, "[attention] program: expected tables made by heed::table");
    tables.push_back(*static_cast<const at::Tensor*>(view.owner.get()));
  }
}

std::shared_ptr<const program::Program> parse(const TensorProgram& program) {
  return with_prefix([&] { return program::parse(program.text); });
}

std::unique_ptr<const program::BoundProgram> bind(const TensorProgram& program,
                                                  const program::Sizes& sizes) {
  if (program.text.empty()) return nullptr;
  std::vector<program::TableView> views;
  for (const at::Tensor& tensor : program.tables) views.push_back(table_view(tensor));
  return with_prefix([&] {
    return std::make_unique<const program::BoundProgram>(program::parse(program.text),
                                                         std::move(views), sizes);
  });
}

}  // namespace heed
