#include "heed/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "heed/data/error.h"

namespace heed::train {

Schedule::Schedule(ScheduleOptions options, int64_t total_steps)
    : options_(std::move(options)), total_steps_(total_steps) {
  const std::string& name = options_.name;
  if (name != "inverse_sqrt" && name != "linear" && name != "plateau" && name != "constant") {
    throw UserError(
        "training.schedule.name: expected inverse_sqrt, linear, plateau or constant, got '" + name +
        "'");
  }
}

double Schedule::factor(int64_t step) const {
  const auto warmup = static_cast<double>(std::max<int64_t>(1, options_.warmup_steps));
  const auto at = static_cast<double>(step);
  if (at < warmup) return at / warmup;
  if (options_.name == "inverse_sqrt") return std::sqrt(warmup / at);
  if (options_.name == "plateau") return std::max(options_.floor, state.plateau_scale);
  if (options_.name == "constant") return 1;
  const double rest = std::max(1.0, static_cast<double>(total_steps_) - warmup);
  return std::max(options_.floor, 1 - (at - warmup) / rest);
}

void Schedule::validated(double loss) {
  if (std::isfinite(loss) && (!state.has_best || loss < state.best_loss)) {
    state.best_loss = loss;
    state.has_best = true;
    state.without_progress = 0;
  } else if (++state.without_progress > options_.plateau_patience) {
    state.plateau_scale *= options_.plateau_factor;
    state.without_progress = 0;
  }
}

}  // namespace heed::train
