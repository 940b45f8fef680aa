// The kernel set in use is HEED_ISA's where it can be, and every level says whether it runs here.
#include "heed/core/isa.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace heed {
namespace {

// A level that this machine lacks cannot be tested here: say so and skip everything.
class SkipsWhatTheMachineLacks : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* problem = isa_problem();
    if (problem == nullptr) return;
    std::printf("skipped: HEED_ISA=%s: %s\n", std::getenv("HEED_ISA"), problem);
    GTEST_SKIP();
  }
};
[[maybe_unused]] const auto* const kEnvironment =
    ::testing::AddGlobalTestEnvironment(new SkipsWhatTheMachineLacks);

TEST(Isa, FollowsHeedIsa) {
  const char* asked = std::getenv("HEED_ISA");
  EXPECT_STREQ(isa_name(isa()), asked == nullptr ? isa_name(best_isa()) : asked);
}

TEST(Isa, ReferenceRunsEverywhere) {
  EXPECT_TRUE(isa_runs_here(Isa::kRef));
  EXPECT_TRUE(isa_runs_here(best_isa()));
}

TEST(Isa, HigherLevelsIncludeLowerOnes) {
  EXPECT_TRUE(!isa_runs_here(Isa::kV4) || isa_runs_here(Isa::kV3));
  EXPECT_TRUE(!isa_runs_here(Isa::kV3) || isa_runs_here(Isa::kV2));
}

TEST(Isa, ForcedLevelIsInUse) {
  const Isa before = isa();
  force_isa(Isa::kRef);
  EXPECT_EQ(isa(), Isa::kRef);
  force_isa(before);
  EXPECT_EQ(isa(), before);
}

}  // namespace
}  // namespace heed
