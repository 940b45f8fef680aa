// Settings read strictly from YAML (or JSON, its subset) and written back as JSON. A settings
// struct names each of its keys once:
//
//   struct Options {
//     int64_t beam = 5;
//     template <class Visitor> void visit(Visitor& v) { v("beam", beam, {1, 1000}); }
//   };
//
// An unknown key is an error that says the nearest known one; so is a value of the wrong type or
// outside its bounds. Every message starts with the file and the line.
#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "heed/data/error.h"

namespace heed {

struct Bounds {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

// The known word nearest to `word`, or "" when none is near enough to be meant.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

class ConfigReader {
 public:
  // `file` opens each message; `path` is the section, "" at the top.
  ConfigReader(YAML::Node node, std::string file, std::string path = "");

  template <class T>
  void operator()(const char* key, T& value, Bounds bounds = {});

  void finish() const;  // throws on a key that nobody asked for

 private:
  YAML::Node find(const char* key);
  std::string name_of(const char* key) const;
  [[noreturn]] void fail(const YAML::Node& at, const std::string& message) const;
  void read(const YAML::Node& node, const char* key, bool& value, Bounds) const;
  void read(const YAML::Node& node, const char* key, int64_t& value, Bounds) const;
  void read(const YAML::Node& node, const char* key, double& value, Bounds) const;
  void read(const YAML::Node& node, const char* key, std::string& value, Bounds) const;
  void read(const YAML::Node& node, const char* key, std::vector<std::string>& value, Bounds) const;

  YAML::Node node_;
  std::string file_, path_;
  std::vector<std::string> known_;
};

class ConfigWriter {
 public:
  template <class T>
  void operator()(const char* key, T& value, Bounds = {}) {
    if constexpr (std::is_class_v<T> && requires(ConfigWriter & v) { value.visit(v); }) {
      ConfigWriter section;
      value.visit(section);
      json[key] = section.json;
    } else {
      json[key] = value;
    }
  }
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
};

template <class T>
void ConfigReader::operator()(const char* key, T& value, Bounds bounds) {
  const YAML::Node found = find(key);
  if constexpr (requires(ConfigReader & v) { value.visit(v); }) {
    ConfigReader section(found, file_, name_of(key));
    value.visit(section);
    section.finish();
  } else if (found.IsDefined()) {
    read(found, key, value, bounds);
  }
}

// Parses a file; UserError when it is missing, unreadable or not YAML.
YAML::Node load_yaml(const std::filesystem::path& file);

// Applies "a.b=value" to a tree; the value is YAML. UserError when it has another form.
void set_in_yaml(YAML::Node& tree, const std::string& assignment);

template <class Config>
Config read_config(const YAML::Node& tree, const std::string& file) {
  Config config;
  ConfigReader reader(tree, file);
  config.visit(reader);
  reader.finish();
  return config;
}

template <class Config>
nlohmann::ordered_json config_json(Config config) {
  ConfigWriter writer;
  config.visit(writer);
  return writer.json;
}

}  // namespace heed
