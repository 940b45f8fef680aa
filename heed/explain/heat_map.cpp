// Heat maps: columns are measured, grouped into panels, then painted row by row.
#include "heed/explain/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <span>

#include "heed/data/text.h"
#include "heed/explain/color_scale.h"
#include "heed/explain/token_label.h"

namespace heed {
namespace {

constexpr int kLongestLabel = 16;  // cells; four such columns and a row label fit into 80
constexpr int kNarrowest = 24;     // one longest column and a short row label

// How much a cell says.
struct Density {
  int margin;     // cells beside a column's label
  int narrowest;  // column
  int decimals;   // of the value in a block; 0: tenths, without colour
};

constexpr std::array<Density, 3> kBlockDensities = {{{2, 5, 2}, {1, 4, 2}, {1, 3, 1}}};
constexpr Density kDigitDensity = {1, 2, 0};
// With room for the brackets around a planted place.
constexpr std::array<Density, 2> kPlantedBlockDensities = {{{2, 5, 2}, {1, 4, 1}}};
constexpr Density kPlantedDigitDensity = {1, 3, 0};

struct Column {
  std::string label;
  int width;
};

struct Panel {
  size_t begin, end;  // columns
};

struct Layout {
  std::vector<std::string> row_labels;
  int label_width = 0;
  Density density = kDigitDensity;
  std::vector<Column> columns;
  std::vector<Panel> panels;
};

std::string centred(const std::string& text, int width) {
  const int left = std::max(0, (width - display_width(text)) / 2);
  return pad_to_width(std::string(static_cast<size_t>(left), ' ') + text, width);
}

std::vector<std::string> short_labels(const std::vector<std::string>& tokens, int longest) {
  std::vector<std::string> labels;
  for (const TokenLabel& token : token_labels(tokens))
    labels.push_back(truncate_to_width(token.alone(), longest));
  return labels;
}

std::vector<Column> measure(const std::vector<std::string>& labels, const Density& density) {
  std::vector<Column> columns;
  for (const std::string& label : labels)
    columns.push_back({label, std::max(density.narrowest, display_width(label) + density.margin)});
  return columns;
}

std::vector<Panel> split(const std::vector<Column>& columns, int width) {
  std::vector<Panel> panels = {{0, 0}};
  int used = 0;
  for (size_t i = 0; i < columns.size(); ++i) {
    if (used > 0 && used + columns[i].width > width) {
      panels.push_back({i, i});
      used = 0;
    }
    used += columns[i].width;
    panels.back().end = i + 1;
  }
  return panels;
}

// The fewest panels, about equally wide: the narrowest limit that needs no more of them.
std::vector<Panel> balanced_panels(const std::vector<Column>& columns, int width) {
  std::vector<Panel> best = split(columns, width);
  for (int limit = width - 1; limit > 0 && best.size() > 1; --limit) {
    std::vector<Panel> narrower = split(columns, limit);
    if (narrower.size() > best.size()) break;
    best = std::move(narrower);
  }
  return best;
}

std::span<const Density> densities(bool planted, ColorDepth colors) {
  if (colors == ColorDepth::kNone) return {planted ? &kPlantedDigitDensity : &kDigitDensity, 1};
  if (planted) return kPlantedBlockDensities;
  return kBlockDensities;
}

// The most telling density that needs no more panels than the densest.
Density choose_density(const std::vector<std::string>& labels, std::span<const Density> choice,
                       int width) {
  const size_t fewest = split(measure(labels, choice.back()), width).size();
  return *std::find_if(choice.begin(), choice.end(), [&](const Density& density) {
    return split(measure(labels, density), width).size() == fewest;
  });
}

Layout lay_out(const Alignment& alignment, const HeatMapStyle& style) {
  const int width = std::max(style.width, kNarrowest);
  const int longest = std::min(kLongestLabel, width / 3);
  Layout layout;
  layout.row_labels = short_labels(alignment.target, longest);
  for (const std::string& label : layout.row_labels)
    layout.label_width = std::max(layout.label_width, display_width(label));
  const int available = width - layout.label_width - 1;
  const std::vector<std::string> labels = short_labels(alignment.source, longest);
  layout.density =
      choose_density(labels, densities(!alignment.planted.empty(), style.colors), available);
  layout.columns = measure(labels, layout.density);
  layout.panels = balanced_panels(layout.columns, available);
  return layout;
}

std::string painted(const std::string& text, float weight, ColorDepth colors) {
  return "\x1b[" + weight_colors(weight, colors) + "m" + text;
}

// ".87", "1.0", or nothing for what rounds to zero: the eye finds the rest sooner.
std::string fraction(float weight, int decimals) {
  const int one = decimals == 1 ? 10 : 100;
  const long parts = std::isfinite(weight) ? std::lround(weight * static_cast<float>(one)) : 0;
  if (parts <= 0) return "";
  if (parts >= one) return decimals == 1 ? "1" : "1.0";
  char text[8];
  std::snprintf(text, sizeof text, ".%0*ld", decimals, parts);
  return text;
}

std::string tenths(float weight) {
  if (!(weight > 0)) return "0";
  return std::to_string(std::min(9, static_cast<int>(weight * 10)));
}

std::string cell(float weight, bool planted, const Column& column, int decimals,
                 ColorDepth colors) {
  std::string text = colors == ColorDepth::kNone ? tenths(weight) : fraction(weight, decimals);
  if (planted) text = "[" + text + "]";
  text = centred(text, column.width);
  return colors == ColorDepth::kNone ? text : painted(text, weight, colors);
}

// Gates, such as a channel's, are weights that sum to whatever they do.
bool rows_sum_to_one(const Alignment& alignment) {
  const auto S = static_cast<std::ptrdiff_t>(alignment.source.size());
  for (auto row = alignment.weights.begin(); row != alignment.weights.end(); row += S) {
    if (std::abs(std::accumulate(row, row + S, -1.0)) > 0.01) return false;
  }
  return true;
}

std::string legend(const Alignment& alignment, const HeatMapStyle& style) {
  const bool planted = !alignment.planted.empty();
  const std::string sums = rows_sum_to_one(alignment) ? "; each row sums to 1" : "";
  const std::string brackets = planted ? "; []: where the answer stands" : "";
  if (style.colors == ColorDepth::kNone) {
    const std::string words =
        planted ? "0-9: weight in tenths" : "0-9: weight in tenths, 9 from .9 on";
    return truncate_to_width(words + sums + brackets, style.width) + "\n";
  }
  constexpr std::array<float, 6> kSamples = {0, 0.1F, 0.25F, 0.5F, 0.75F, 1};
  constexpr std::array<const char*, 6> kNames = {"0", ".1", ".25", ".5", ".75", "1"};
  constexpr int kSwatch = 5;
  std::string line;
  int room = style.width;
  for (size_t i = 0; i < kSamples.size() && room >= kSwatch; ++i, room -= kSwatch)
    line += painted(centred(kNames[i], kSwatch), kSamples[i], style.colors);
  const std::string words = "  weight" + (planted ? brackets : sums);  // 80 cells have room for one
  return line + "\x1b[0m" + truncate_to_width(words, room) + "\n";
}

std::string header(const Layout& layout, const Panel& panel) {
  std::string line(static_cast<size_t>(layout.label_width) + 1, ' ');
  for (size_t s = panel.begin; s < panel.end; ++s)
    line += centred(layout.columns[s].label, layout.columns[s].width);
  return line + "\n";
}

std::string row(const Alignment& alignment, const Layout& layout, const Panel& panel, size_t t,
                ColorDepth colors) {
  const std::string& label = layout.row_labels[t];
  const int indent = layout.label_width - display_width(label);
  std::string line = std::string(static_cast<size_t>(indent), ' ') + label + " ";
  for (size_t s = panel.begin; s < panel.end; ++s)
    line += cell(alignment.weight(t, s), alignment.is_planted(t, s), layout.columns[s],
                 layout.density.decimals, colors);
  return line + (colors == ColorDepth::kNone ? "\n" : "\x1b[0m\n");
}

}  // namespace

std::string heat_map(const Alignment& alignment, const HeatMapStyle& style) {
  require_consistent(alignment);
  if (alignment.weights.empty()) return "";
  const Layout layout = lay_out(alignment, style);
  std::string text;
  if (!alignment.title.empty())
    text += truncate_to_width(token_labels({alignment.title})[0].text, style.width) + "\n\n";
  for (const Panel& panel : layout.panels) {
    text += header(layout, panel);
    for (size_t t = 0; t < alignment.target.size(); ++t)
      text += row(alignment, layout, panel, t, style.colors);
    text += "\n";
  }
  return text + legend(alignment, style);
}

}  // namespace heed
