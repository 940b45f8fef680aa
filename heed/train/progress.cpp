#include "heed/train/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace heed::train {
namespace {

constexpr int kBarCells = 12;  // the line fits into 80 cells
constexpr auto kRedrawEvery = std::chrono::milliseconds(200);

double seconds_between(std::chrono::steady_clock::time_point begin,
                       std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

bool is_live_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) != 0 && term != nullptr && std::string(term) != "dumb";
}

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<long>(std::max(0.0, seconds) + 0.5);
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
  }
  return text;
}

Progress::Progress(int64_t total_steps, int64_t plain_every)
    : total_steps_(total_steps),
      plain_every_(std::max<int64_t>(1, plain_every)),
      live_(is_live_terminal()),
      begin_(std::chrono::steady_clock::now()),
      last_drawn_(begin_) {}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', stderr);
}

std::string Progress::bar(const Status& status, double seconds) const {
  const double share = std::min(1.0, static_cast<double>(status.step) /
                                         static_cast<double>(std::max<int64_t>(1, total_steps_)));
  const double per_step = seconds / static_cast<double>(std::max<int64_t>(1, status.steps_done));
  const double left =
      per_step * static_cast<double>(std::max<int64_t>(0, total_steps_ - status.step));
  const double tokens_per_second = static_cast<double>(status.tokens) / std::max(1e-9, seconds);
  char numbers[160];
  std::snprintf(numbers, sizeof numbers,
                "step %lld/%lld  epoch %lld  loss %.3f  %.0f tokens/s  ETA %s",
                static_cast<long long>(status.step), static_cast<long long>(total_steps_),
                static_cast<long long>(status.epoch), status.loss, tokens_per_second,
                duration_text(left).c_str());
  if (!live_) {
    char rate[32];
    std::snprintf(rate, sizeof rate, "  lr %.1e", status.learning_rate);
    return std::string(numbers) + rate;
  }
  std::string cells;
  for (int i = 0; i < kBarCells; ++i) cells += i < share * kBarCells ? "█" : "░";
  return cells + " " + numbers;
}

void Progress::update(const Status& status) {
  const auto now = std::chrono::steady_clock::now();
  if (live_) {
    if (now - last_drawn_ < kRedrawEvery) return;
    last_drawn_ = now;
    std::fprintf(stderr, "\r\033[K%s", bar(status, seconds_between(begin_, now)).c_str());
    std::fflush(stderr);
    line_open_ = true;
  } else if (status.step % plain_every_ == 0) {
    std::fprintf(stderr, "%s\n", bar(status, seconds_between(begin_, now)).c_str());
  }
}

void Progress::message(const std::string& line) {
  if (line_open_) std::fputs("\r\033[K", stderr);
  line_open_ = false;
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace heed::train
