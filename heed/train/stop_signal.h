// SIGINT and SIGTERM as a request: long work looks at it between steps, saves, and ends by itself.
#pragma once

namespace heed::train {

// While it lives, the first SIGINT or SIGTERM only sets the flag; a second one ends the process.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  static bool requested();
};

}  // namespace heed::train
