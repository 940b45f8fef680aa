// The JSON header of a safetensors file, read by a state machine that knows only the format's
// grammar, so depth, repeated keys and unknown fields are bounded by construction.
#include "heed/data/safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>

#include "heed/data/text.h"

namespace heed {

std::string quoted_name(std::string_view name) {
  constexpr std::size_t kShown = 80;
  const bool cut = name.size() > kShown;
  const nlohmann::json text = std::string(name.substr(0, kShown)) + (cut ? "..." : "");
  return text.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
}

namespace {

constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::size_t kMaxDims = 64;  // what torch's operators take

struct DtypeName {
  std::string_view name;
  at::ScalarType dtype;
};
constexpr std::array<DtypeName, 10> kDtypes = {{{"F64", at::kDouble},
                                                {"F32", at::kFloat},
                                                {"F16", at::kHalf},
                                                {"BF16", at::kBFloat16},
                                                {"I64", at::kLong},
                                                {"I32", at::kInt},
                                                {"I16", at::kShort},
                                                {"I8", at::kChar},
                                                {"U8", at::kByte},
                                                {"BOOL", at::kBool}}};

[[noreturn]] void refuse(const std::string& reason) { throw SafetensorsHeaderError(reason); }

at::ScalarType dtype_named(const std::string& name, const std::string& tensor) {
  for (const DtypeName& known : kDtypes) {
    if (known.name == name) return known.dtype;
  }
  refuse("tensor " + quoted_name(tensor) + ": unknown dtype " + quoted_name(name));
}

std::string_view dtype_name(const TensorEntry& entry) {
  for (const DtypeName& known : kDtypes) {
    if (known.dtype == entry.dtype) return known.name;
  }
  refuse("tensor " + quoted_name(entry.name) + ": type " + c10::toString(entry.dtype) +
         " cannot be stored");
}

void check_name(const std::string& name) {
  if (name.find('\0') != std::string::npos)
    refuse("tensor " + quoted_name(name) + ": name holds a NUL");
}

// {"__metadata__": {key: string, ...},
//  name: {"dtype": string, "shape": [number, ...], "data_offsets": [number, number]}, ...}
class HeaderHandler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(SafetensorsHeader& header) : header_(header) {}

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kRoot;
        return true;
      case Place::kMetadataValue:
        place_ = Place::kMetadata;
        return true;
      case Place::kTensorValue:
        entry_ = {};
        entry_.name = name_;
        seen_fields_.clear();
        place_ = Place::kTensor;
        return true;
      default:
        unexpected("an object");
    }
  }

  bool key(std::string& text) override {
    switch (place_) {
      case Place::kRoot:
        name_ = text;
        if (!seen_names_.insert(text).second) refuse("key " + quoted_name(text) + " appears twice");
        check_name(text);
        place_ = text == kMetadataKey ? Place::kMetadataValue : Place::kTensorValue;
        return true;
      case Place::kMetadata:
        field_ = text;
        if (header_.metadata.contains(text)) {
          refuse("__metadata__: key " + quoted_name(text) + " appears twice");
        }
        place_ = Place::kMetadataString;
        return true;
      default:
        begin_field(text);
        return true;
    }
  }

  bool string(std::string& text) override {
    if (place_ == Place::kMetadataString) {
      header_.metadata.emplace(field_, text);
      place_ = Place::kMetadata;
    } else if (place_ == Place::kDtype) {
      entry_.dtype = dtype_named(text, name_);
      place_ = Place::kTensor;
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kShapeValue) {
      place_ = Place::kShape;
    } else if (place_ == Place::kOffsetsValue) {
      place_ = Place::kOffsets;
    } else {
      unexpected("a list");
    }
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (place_ == Place::kShape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        refuse("tensor " + quoted_name(name_) + ": shape is too large");
      }
      if (entry_.shape.size() == kMaxDims) {
        refuse("tensor " + quoted_name(name_) + ": more than " + std::to_string(kMaxDims) +
               " dimensions");
      }
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::kOffsets && offsets_.size() < 2) {
      offsets_.push_back(value);
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets) {
      if (offsets_.size() != 2) unexpected("a list of other than two numbers");
      entry_.begin = offsets_[0];
      entry_.end = offsets_[1];
    }
    place_ = Place::kTensor;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        if (!seen_fields_.contains(field)) {
          refuse("tensor " + quoted_name(name_) + ": no field \"" + field + "\"");
        }
      }
      header_.entries.push_back(entry_);
    }
    place_ = place_ == Place::kRoot ? Place::kEnd : Place::kRoot;
    return true;
  }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(std::int64_t) override { unexpected("a negative number"); }
  bool number_float(double, const std::string&) override {
    unexpected("a number that is no 64-bit integer");
  }
  bool binary(nlohmann::json::binary_t&) override { unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    refuse("header is not valid JSON at byte " + std::to_string(position));
  }

 private:
  enum class Place {
    kStart,
    kRoot,
    kEnd,
    kMetadataValue,
    kMetadata,
    kMetadataString,
    kTensorValue,
    kTensor,
    kDtype,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
  };

  void begin_field(const std::string& field) {
    if (!seen_fields_.insert(field).second) {
      refuse("tensor " + quoted_name(name_) + ": field " + quoted_name(field) + " appears twice");
    }
    if (field == "dtype") {
      place_ = Place::kDtype;
    } else if (field == "shape") {
      place_ = Place::kShapeValue;
    } else if (field == "data_offsets") {
      offsets_.clear();
      place_ = Place::kOffsetsValue;
    } else {
      refuse("tensor " + quoted_name(name_) + ": unknown field " + quoted_name(field));
    }
  }

  [[noreturn]] void unexpected(const std::string& what) const {
    switch (place_) {
      case Place::kMetadataValue:
      case Place::kMetadataString:
        refuse("__metadata__ must map strings to strings, but holds " + what);
      case Place::kDtype:
        refuse("tensor " + quoted_name(name_) + ": dtype must be a string, not " + what);
      case Place::kShapeValue:
      case Place::kShape:
        refuse("tensor " + quoted_name(name_) +
               ": shape must be a list of non-negative integers, but holds " + what);
      case Place::kOffsetsValue:
      case Place::kOffsets:
        refuse("tensor " + quoted_name(name_) +
               ": data_offsets must be two non-negative integers, but holds " + what);
      case Place::kTensorValue:
        refuse("tensor " + quoted_name(name_) + ": must be an object, not " + what);
      default:
        refuse("header must be an object, not " + what);
    }
  }

  SafetensorsHeader& header_;
  Place place_ = Place::kStart;
  std::string name_, field_;
  TensorEntry entry_;
  std::vector<uint64_t> offsets_;
  std::set<std::string> seen_names_, seen_fields_;
};

// Bytes of a tensor of this shape, each dimension counted as at least 1, or nothing where 63 bits
// cannot hold it. A zero must not hide the overflow of the others: strides are products too.
std::optional<uint64_t> checked_bytes(const TensorEntry& entry) {
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  uint64_t bytes = c10::elementSize(entry.dtype);
  for (const int64_t dim : entry.shape) {
    const auto count = static_cast<uint64_t>(std::max<int64_t>(dim, 1));
    if (bytes > kMost / count) return std::nullopt;
    bytes *= count;
  }
  return bytes;
}

void check_size(const TensorEntry& entry) {
  const std::string where = "tensor " + quoted_name(entry.name) + ": ";
  if (entry.begin > entry.end) refuse(where + "data end before they begin");
  const std::optional<uint64_t> bytes = checked_bytes(entry);
  if (!bytes) refuse(where + "shape is too large");
  const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  const uint64_t needed = empty ? 0 : *bytes;
  if (entry.end - entry.begin != needed) {
    refuse(where + "shape and dtype need " + std::to_string(needed) + " bytes, data_offsets give " +
           std::to_string(entry.end - entry.begin));
  }
}

void check_layout(const std::vector<TensorEntry>& entries, uint64_t data_size) {
  uint64_t position = 0;
  for (const TensorEntry& entry : entries) {
    check_size(entry);
    if (entry.begin != position) {
      refuse("tensor " + quoted_name(entry.name) +
             (entry.begin < position ? ": data overlap another tensor's"
                                     : ": unused bytes before its data"));
    }
    position = entry.end;
  }
  if (position > data_size) {
    refuse("truncated: tensors need " + std::to_string(position) + " bytes, file has " +
           std::to_string(data_size) + "; copy it again");
  }
  if (position < data_size) {
    refuse(std::to_string(data_size - position) + " bytes after the last tensor");
  }
}

void check_text(std::string_view json) {
  if (!json.starts_with('{')) refuse("header does not begin with '{'; is this a safetensors file?");
  if (const std::size_t valid = valid_utf8_prefix(json); valid < json.size()) {
    refuse("header is not UTF-8 at byte " + std::to_string(valid));
  }
  // The JSON parser takes a NUL for the end of its input.
  if (json.find('\0') != std::string_view::npos) refuse("header holds a NUL byte");
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_size) {
  check_text(json);
  json = json.substr(0, json.find_last_not_of(' ') + 1);
  if (!json.ends_with('}')) refuse("header is followed by something other than spaces");

  SafetensorsHeader header;
  HeaderHandler handler(header);
  nlohmann::json::sax_parse(json.begin(), json.end(), &handler);
  std::sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_layout(header.entries, data_size);
  return header;
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!header.metadata.empty()) json[std::string(kMetadataKey)] = header.metadata;
  for (const TensorEntry& entry : header.entries) {
    check_name(entry.name);
    if (entry.name == kMetadataKey) refuse("a tensor cannot be named __metadata__");
    json[entry.name] = {{"dtype", dtype_name(entry)},
                        {"shape", entry.shape},
                        {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const nlohmann::json::exception&) {
    refuse("a tensor's name or the metadata are not UTF-8");
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxSafetensorsHeader) refuse("header would exceed 100,000,000 bytes");
  return text;
}

}  // namespace heed
