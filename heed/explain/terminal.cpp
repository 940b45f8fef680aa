// Terminal detection from the environment.
#include "heed/explain/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace heed {

ColorDepth detect_colors(bool is_terminal, const Environment& environment) {
  const auto variable = [&](const char* name) {
    const char* value = environment(name);
    return std::string_view(value ? value : "");
  };
  const std::string_view term = variable("TERM"), color_term = variable("COLORTERM");
  if (!is_terminal || !variable("NO_COLOR").empty() || term == "dumb") return ColorDepth::kNone;
  if (color_term == "truecolor" || color_term == "24bit" || term.ends_with("-direct"))
    return ColorDepth::kTrueColor;
  return term.ends_with("-256color") ? ColorDepth::k256 : ColorDepth::kNone;
}

HeatMapStyle standard_output_style() {
  const bool is_terminal = isatty(STDOUT_FILENO) == 1;
  HeatMapStyle style{.colors = detect_colors(is_terminal, [](const char* name) {
                       return static_cast<const char*>(std::getenv(name));
                     })};
  winsize window{};
  if (is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
    style.width = window.ws_col;
  return style;
}

}  // namespace heed
