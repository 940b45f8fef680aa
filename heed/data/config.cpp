#include "heed/data/config.h"

#include <algorithm>
#include <cmath>

namespace heed {
namespace {

// Levenshtein distance with adjacent swaps counted as one edit.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, substitute});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::string shown(const YAML::Node& node) {
  if (node.IsScalar()) return "'" + node.Scalar() + "'";
  return node.IsSequence() ? "a list" : node.IsMap() ? "a section" : "nothing";
}

std::string number(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = word.size() / 3 + 2;  // about one slip per three letters
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) best = candidate, best_distance = distance;
  }
  return best;
}

ConfigReader::ConfigReader(YAML::Node node, std::string file, std::string path)
    : node_(std::move(node)), file_(std::move(file)), path_(std::move(path)) {
  if (node_.IsDefined() && !node_.IsNull() && !node_.IsMap()) {
    fail(node_, (path_.empty() ? "the file" : path_) +
                    ": expected a section of 'key: value', got " + shown(node_));
  }
}

std::string ConfigReader::name_of(const char* key) const {
  return path_.empty() ? key : path_ + "." + key;
}

YAML::Node ConfigReader::find(const char* key) {
  known_.push_back(key);
  if (!node_.IsDefined() || !node_.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
  const YAML::Node& map = node_;  // a const look-up adds nothing
  return map[key];
}

void ConfigReader::fail(const YAML::Node& at, const std::string& message) const {
  const YAML::Mark mark = at.Mark();
  const std::string line = mark.is_null() ? "" : ":" + std::to_string(mark.line + 1);
  throw UserError(file_ + line + ": " + message);
}

void ConfigReader::finish() const {
  if (!node_.IsDefined() || !node_.IsMap()) return;
  for (const auto& entry : node_) {
    const std::string key = entry.first.Scalar();
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    const std::string guess = nearest(key, known_);
    std::string message = "unknown key '" + name_of(key.c_str()) + "'";
    if (!guess.empty()) {
      message += "; did you mean '" + guess + "'?";
    } else {
      message += "; known here:";
      for (const std::string& name : known_) message += " " + name;
    }
    fail(entry.first, message);
  }
}

void ConfigReader::read(const YAML::Node& node, const char* key, bool& value, Bounds) const {
  if (!node.IsScalar() || !YAML::convert<bool>::decode(node, value)) {
    fail(node, name_of(key) + ": expected true or false, got " + shown(node));
  }
}

void ConfigReader::read(const YAML::Node& node, const char* key, double& value,
                        Bounds bounds) const {
  if (!node.IsScalar() || !YAML::convert<double>::decode(node, value) || !std::isfinite(value)) {
    fail(node, name_of(key) + ": expected a number, got " + shown(node));
  }
  if (value < bounds.low || value > bounds.high) {
    fail(node, name_of(key) + ": expected a number from " + number(bounds.low) + " to " +
                   number(bounds.high) + ", got " + node.Scalar());
  }
}

void ConfigReader::read(const YAML::Node& node, const char* key, int64_t& value,
                        Bounds bounds) const {
  if (!node.IsScalar() || !YAML::convert<int64_t>::decode(node, value)) {
    fail(node, name_of(key) + ": expected a whole number, got " + shown(node));
  }
  double as_double = 0;
  read(node, key, as_double, bounds);
}

void ConfigReader::read(const YAML::Node& node, const char* key, std::string& value, Bounds) const {
  if (!node.IsScalar()) fail(node, name_of(key) + ": expected a text, got " + shown(node));
  value = node.Scalar();
}

void ConfigReader::read(const YAML::Node& node, const char* key, std::vector<std::string>& value,
                        Bounds) const {
  if (!node.IsSequence()) fail(node, name_of(key) + ": expected a list, got " + shown(node));
  value.clear();
  for (const YAML::Node& item : node) {
    if (!item.IsScalar()) fail(item, name_of(key) + ": expected texts in the list");
    value.push_back(item.Scalar());
  }
}

YAML::Node load_yaml(const std::filesystem::path& file) {
  if (std::filesystem::is_directory(file)) {
    throw UserError(file.string() + ": is a folder, expected a YAML file");
  }
  try {
    return YAML::LoadFile(file.string());
  } catch (const YAML::BadFile&) {
    throw UserError(file.string() + ": no such file, or it can't be read");
  } catch (const YAML::Exception& error) {
    throw UserError(file.string() + ":" + std::to_string(error.mark.line + 1) + ": " + error.msg);
  }
}

void set_in_yaml(YAML::Node& tree, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UserError("--set " + assignment + ": expected key=value, such as training.epochs=3");
  }
  YAML::Node value;
  try {
    value = YAML::Load(assignment.substr(equals + 1));
  } catch (const YAML::Exception& error) {
    throw UserError("--set " + assignment + ": " + error.msg);
  }
  YAML::Node at;
  at.reset(tree);
  size_t begin = 0;
  const std::string path = assignment.substr(0, equals);
  while (true) {
    const size_t dot = path.find('.', begin);
    const std::string key = path.substr(begin, dot - begin);
    if (at.IsDefined() && !at.IsNull() && !at.IsMap()) {
      throw UserError("--set " + assignment + ": '" + path.substr(0, begin - 1) +
                      "' is a value, not a section");
    }
    if (dot == std::string::npos) {
      at[key] = value;
      return;
    }
    at.reset(at[key]);
    begin = dot + 1;
  }
}

}  // namespace heed
