#include "heed/data/config.h"

#include <gtest/gtest.h>

namespace heed {
namespace {

struct Inner {
  double rate = 0.5;
  std::vector<std::string> names = {"a"};
  template <class Visitor>
  void visit(Visitor& v) {
    v("rate", rate, {0, 1});
    v("names", names);
  }
};

struct Outer {
  int64_t epochs = 3;
  bool quick = false;
  std::string output;
  Inner inner;
  template <class Visitor>
  void visit(Visitor& v) {
    v("epochs", epochs, {1, 100});
    v("quick", quick);
    v("output", output);
    v("inner", inner);
  }
};

Outer read(const std::string& yaml) { return read_config<Outer>(YAML::Load(yaml), "c.yaml"); }

std::string error_of(const std::string& yaml) {
  try {
    read(yaml);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Config, WhatIsNotSaidKeepsItsDefault) {
  EXPECT_EQ(read("").epochs, 3);
  const Outer config = read("{epochs: 7, inner: {names: [x, y]}}");
  EXPECT_EQ(config.epochs, 7);
  EXPECT_EQ(config.inner.rate, 0.5);
  EXPECT_EQ(config.inner.names, (std::vector<std::string>{"x", "y"}));
}

TEST(Config, AMistypedKeyIsAnsweredWithTheNearest) {
  EXPECT_EQ(error_of("epochs: 7\nepohcs: 8"),
            "c.yaml:2: unknown key 'epohcs'; did you mean 'epochs'?");
  EXPECT_EQ(error_of("inner:\n  raet: 1"),
            "c.yaml:2: unknown key 'inner.raet'; did you mean 'rate'?");
  EXPECT_EQ(error_of("zzzzzzz: 1"),
            "c.yaml:1: unknown key 'zzzzzzz'; known here: epochs quick output inner");
}

TEST(Config, AWrongValueIsAnsweredWithItsPlaceAndWhatIsExpected) {
  EXPECT_EQ(error_of("epochs: many"), "c.yaml:1: epochs: expected a whole number, got 'many'");
  EXPECT_EQ(error_of("epochs: 2.5"), "c.yaml:1: epochs: expected a whole number, got '2.5'");
  EXPECT_EQ(error_of("epochs: 0"), "c.yaml:1: epochs: expected a number from 1 to 100, got 0");
  EXPECT_EQ(error_of("quick: perhaps"), "c.yaml:1: quick: expected true or false, got 'perhaps'");
  EXPECT_EQ(error_of("inner: {rate: .nan}"), "c.yaml:1: inner.rate: expected a number, got '.nan'");
  EXPECT_EQ(error_of("inner: 5"), "c.yaml:1: inner: expected a section of 'key: value', got '5'");
  EXPECT_EQ(error_of("output: [1]"), "c.yaml:1: output: expected a text, got a list");
}

TEST(Config, SettingsFromTheCommandLineWin) {
  YAML::Node tree = YAML::Load("{epochs: 7, inner: {rate: 0.1}}");
  set_in_yaml(tree, "inner.rate=0.9");
  set_in_yaml(tree, "quick=true");
  set_in_yaml(tree, "inner.names=[p, q]");
  const auto config = read_config<Outer>(tree, "c.yaml");
  EXPECT_EQ(config.epochs, 7);
  EXPECT_EQ(config.inner.rate, 0.9);
  EXPECT_TRUE(config.quick);
  EXPECT_EQ(config.inner.names.size(), 2);
  EXPECT_THROW(set_in_yaml(tree, "epochs"), UserError);
  EXPECT_THROW(set_in_yaml(tree, "epochs.deeper=1"), UserError);
}

TEST(Config, WhatIsWrittenAsJsonIsReadBack) {
  Outer config;
  config.inner.rate = 1.0 / 3;
  config.output = "a \"quoted\" 名字";
  const Outer again = read(config_json(config).dump(2));
  EXPECT_EQ(again.inner.rate, config.inner.rate);
  EXPECT_EQ(again.output, config.output);
}

TEST(Nearest, FindsSlipsAndNothingFarOff) {
  EXPECT_EQ(nearest("trian", {"train", "translate"}), "train");
  EXPECT_EQ(nearest("tranlate", {"train", "translate"}), "translate");
  EXPECT_EQ(nearest("xyzzy", {"train", "translate"}), "");
}

}  // namespace
}  // namespace heed
