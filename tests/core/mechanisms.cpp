#include "tests/core/mechanisms.h"

#include <limits>

#include "tests/core/random_program.h"

namespace heed::testing {

using program::b;
using program::Expression;
using program::h;
using program::s;
using program::score;
using program::ScoreProgram;
using program::t;
using program::Table;

const char* name_of(Mechanism mechanism) {
  constexpr const char* kNames[] = {
      "none",          "alibi",     "relative",      "soft_cap",   "prefix",   "documents",
      "buckets",       "natten",    "mask",          "float_mask", "bias",     "key_bias",
      "temperature",   "location",  "gaussian",      "where",      "indirect", "clipped_rows",
      "distance_rows", "past_rows", "pairs_of_rows", "rows_twice", "random"};
  return kNames[static_cast<int>(mechanism)];
}

namespace {

ScoreProgram buckets(const Shape& shape, Tables& tables) {
  // Half the buckets for keys to the right; small distances have one each, larger ones share. The
  // half keeps the logarithm off whole numbers, where types would round to different sides.
  const Expression distance = program::abs(t() - s());
  const Expression large =
      4 + program::to_int(program::log((distance + 0.5) / 4) * (4 / 2.7725887));
  const Expression bucket =
      program::where(distance < 4, distance, program::min(program::max(large, 4), 7));
  const Table bias = tables.floats({16, shape.H});
  return ScoreProgram(score() + bias.at({bucket + program::where(s() > t(), 8, 0), h()}));
}

ScoreProgram natten(int64_t width) {
  const Expression rows = program::floor_div(t(), width) - program::floor_div(s(), width);
  const Expression columns = t() % width - s() % width;
  return ScoreProgram::masked(program::abs(rows) <= 1 && program::abs(columns) <= 2);
}

}  // namespace

ScoreProgram program_of(Mechanism mechanism, const Shape& shape, Tables& tables, bool kinks,
                        unsigned seed) {
  const auto& [B, H, Hkv, T, S, D, Dv] = shape;
  switch (mechanism) {
    case Mechanism::kAlibi: {
      const Table slope = tables.floats({H}, 0.3);
      return ScoreProgram(score() - slope[h()] * (t() - s()) / 4);
    }
    case Mechanism::kRelative: {
      const Table bias = tables.floats({H, T + S});
      return ScoreProgram(score() + bias.at({h(), t() - s() + S}));
    }
    case Mechanism::kSoftCap:
      return ScoreProgram(2 * program::tanh(score() / 2));
    case Mechanism::kPrefix: {
      const Table prefix = tables.integers({B}, 0, S);
      return ScoreProgram::masked(s() < prefix[b()] || s() <= t());
    }
    case Mechanism::kDocuments: {
      const Table of_query = tables.integers({B, T}, 0, 3), of_key = tables.integers({B, S}, 0, 2);
      return ScoreProgram::masked(of_query.at({b(), t()}) == of_key.at({b(), s()}));
    }
    case Mechanism::kBuckets:
      return buckets(shape, tables);
    case Mechanism::kNatten:
      return natten(7);
    case Mechanism::kMask: {
      const Table mask = tables.booleans({T, S}, 0.6);
      return ScoreProgram::masked(mask.at({t(), s()}));
    }
    case Mechanism::kFloatMask: {
      const Table mask = tables.either({T, S}, 0, -std::numeric_limits<double>::infinity());
      return ScoreProgram(score() + mask.at({t(), s()}));
    }
    case Mechanism::kBias: {
      const Table bias = tables.floats({H, T, S});
      return ScoreProgram(score() + bias.at({h(), t(), s()}));
    }
    case Mechanism::kKeyBias: {
      const Table bias = tables.floats({B, S});
      return ScoreProgram(score() + bias.at({b(), s()}));
    }
    case Mechanism::kTemperature: {
      const Table temperature = tables.floats({H});
      return ScoreProgram(score() * temperature[h()]);
    }
    case Mechanism::kLocation: {
      const Table table = tables.floats({B, H, T, S});
      return ScoreProgram(table.at({b(), h(), t(), s()}));
    }
    case Mechanism::kGaussian: {
      const Table centre = tables.floats({T}, 10), width = tables.floats({}, 0.2);
      const Expression distance = program::to_float(s()) - centre[t()];
      return ScoreProgram(score() - distance * distance * width.value() * width.value() / 2);
    }
    case Mechanism::kWhere:
      return ScoreProgram(program::where(program::abs(t() - s()) <= 5, score() * 2,
                                         -std::numeric_limits<double>::infinity()));
    case Mechanism::kIndirect: {
      const Table kind = tables.integers({S}, 0, 3), bias = tables.floats({4, H});
      return ScoreProgram(score() + bias.at({kind[s()], h()}));
    }
    case Mechanism::kClippedRows: {
      const Table bias = tables.floats({B, H, T, 23}), of_head = tables.floats({H, 41});
      const auto clipped = [](int64_t far) {
        return program::min(program::max(s() - t(), -far), far) + far;
      };
      return ScoreProgram(score() + bias.at({b(), h(), t(), clipped(11)}) +
                          of_head.at({h(), clipped(20)}));
    }
    case Mechanism::kDistanceRows: {
      const Table bias = tables.floats({B, H, T, T + S}), of_key = tables.floats({B, H, S});
      return ScoreProgram(score() + bias.at({b(), h(), t(), t() - s() + S}) +
                          of_key.at({b(), h(), s()}));
    }
    case Mechanism::kPastRows: {
      const Table bias = tables.floats({B, H, T, T});
      return ScoreProgram(score() + bias.at({b(), h(), t(), t() - s()}), s() <= t());
    }
    case Mechanism::kPairsOfRows: {
      const Table bias = tables.floats({B, H, T / 2 + 1, S});
      return ScoreProgram(score() + bias.at({b(), h(), program::floor_div(t(), 2), s()}));
    }
    case Mechanism::kRowsTwice: {
      const Table bias = tables.floats({H, B, T, T + S});
      return ScoreProgram(score() * (1 + bias.at({h(), b(), t(), t() - s() + S}) / 4) +
                          bias.at({h(), b(), t(), s()}));
    }
    case Mechanism::kRandom:
    case Mechanism::kNone:
      break;
  }
  return random_program(shape, tables, kinks, seed);
}

}  // namespace heed::testing
