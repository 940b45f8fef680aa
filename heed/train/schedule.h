// Learning-rate schedules: a warm-up, then the decay of one's choice.
#pragma once

#include <cstdint>
#include <string>

namespace heed::train {

struct ScheduleOptions {
  std::string name = "inverse_sqrt";  // inverse_sqrt, linear, plateau or constant
  int64_t warmup_steps = 400;         // the rate rises linearly from 0
  double floor = 0.02;           // the smallest share of the rate; linear and plateau end there
  double plateau_factor = 0.5;   // plateau: multiplies the rate
  int64_t plateau_patience = 1;  // plateau: validations without progress before it does

  template <class Visitor>
  void visit(Visitor& v) {
    v("name", name);
    v("warmup_steps", warmup_steps, {0, 1e9});
    v("floor", floor, {0, 1});
    v("plateau_factor", plateau_factor, {0.01, 0.99});
    v("plateau_patience", plateau_patience, {0, 1000});
  }
};

class Schedule {
 public:
  // total_steps matters to linear only. UserError for an unknown name.
  Schedule(ScheduleOptions options, int64_t total_steps);

  double factor(int64_t step) const;  // of the base rate, for step 1, 2, ...
  void validated(double loss);        // plateau: a validation loss was seen

  // What a checkpoint keeps.
  struct State {
    double plateau_scale = 1, best_loss = 0;
    int64_t without_progress = 0;
    bool has_best = false;
  };
  State state;

 private:
  ScheduleOptions options_;
  int64_t total_steps_;
};

}  // namespace heed::train
