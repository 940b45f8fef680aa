// Progress of long work on standard error: one live line on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace heed::train {

class Progress {
 public:
  Progress(int64_t total_steps, int64_t plain_every);  // a plain line every so many steps
  ~Progress();                                         // leaves the cursor on a fresh line

  struct Status {
    int64_t step = 0;
    int64_t epoch = 0;
    double loss = 0;  // mean since the last validation
    double learning_rate = 0;
    int64_t tokens = 0;      // since training (or its resumption) began
    int64_t steps_done = 0;  // likewise
  };
  void update(const Status& status);
  void message(const std::string& line);  // a whole line that stays

 private:
  std::string bar(const Status& status, double seconds) const;

  int64_t total_steps_, plain_every_;
  bool live_;
  bool line_open_ = false;
  std::chrono::steady_clock::time_point begin_, last_drawn_;
};

std::string duration_text(double seconds);  // "1:02:05" or "2:05"

}  // namespace heed::train
