// Cells of one shade are one path, which keeps the file small; labels are measured as a monospaced
// font would set them.
#include "heed/explain/heat_map_svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "heed/data/text.h"
#include "heed/explain/token_label.h"

namespace heed {
namespace {

constexpr int kCell = 24, kWidestCell = 44;
constexpr int kFontSize = 12, kTitleFontSize = 14;
constexpr int kGlyph = 7, kTitleGlyph = 9;  // widths of a terminal cell in these
constexpr int kLongestLabel = 16;           // terminal cells
constexpr int kMargin = 16;
constexpr int kLegendHeight = 44;
constexpr int kNarrowest = 370;  // the legend's width

// Lighter to darker in equal steps of lightness, so that a printer and any eye order them alike:
// OKLCH from (1, 0, 250) to (.33, .11, 260). A shade is the root of the weight, as on terminals.
constexpr std::array<const char*, 17> kShades = {
    "#ffffff", "#edf2f7", "#dbe5f0", "#c9d7e8", "#b7cae0", "#a6bdd9",
    "#96b0d1", "#85a3c9", "#7596c1", "#6589b9", "#557cb1", "#466fa9",
    "#3763a1", "#2b5696", "#204a89", "#163d7c", "#0b316f"};
constexpr const char* kOutline = "#d55e00";  // vermilion (Okabe & Ito 2008), apart from every blue
constexpr const char* kInk = "#222222";
constexpr const char* kQuietInk = "#666666";
constexpr const char* kLine = "#e4e4e4";

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&') {
      safe += "&amp;";
    } else if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else if (c == '"') {
      safe += "&quot;";
    } else {
      safe += c;
    }
  }
  return safe;
}

size_t shade(float weight) {
  const float root = std::isfinite(weight) ? std::sqrt(std::clamp(weight, 0.0F, 1.0F)) : 0.0F;
  return static_cast<size_t>(std::lround(root * (kShades.size() - 1)));
}

std::vector<std::string> labels(const std::vector<std::string>& tokens) {
  std::vector<std::string> all;
  for (const TokenLabel& token : token_labels(tokens))
    all.push_back(truncate_to_width(token.alone(), kLongestLabel));
  return all;
}

int longest(const std::vector<std::string>& labels) {
  int width = 0;
  for (const std::string& label : labels) width = std::max(width, display_width(label));
  return width * kGlyph;
}

// A part of a path.
std::string rectangle(int x, int y, int width, int height) {
  return "M" + std::to_string(x) + " " + std::to_string(y) + "h" + std::to_string(width) + "v" +
         std::to_string(height) + "h-" + std::to_string(width) + "z";
}

// "6 rows of weights over 10 columns; ..." for those who can't see the picture.
std::string description(const Alignment& alignment) {
  const size_t T = alignment.target.size(), S = alignment.source.size();
  std::string text = "Attention weights of " + std::to_string(T) + " queries (rows) over " +
                     std::to_string(S) + " keys (columns).";
  size_t asked = 0, hits = 0;
  for (size_t t = 0; t < T && !alignment.planted.empty(); ++t) {
    size_t best = 0;
    bool known = false;
    for (size_t s = 0; s < S; ++s) {
      if (alignment.weight(t, s) > alignment.weight(t, best)) best = s;
      known = known || alignment.is_planted(t, s);
    }
    asked += known;
    hits += known && alignment.is_planted(t, best);
  }
  if (asked > 0) {
    text += " The largest weight lies where the answer stands in " + std::to_string(hits) + " of " +
            std::to_string(asked) + " rows.";
  }
  return text;
}

class Picture {
 public:
  explicit Picture(const Alignment& alignment)
      : alignment_(alignment),
        title_(alignment.title.empty() ? "" : token_labels({alignment.title})[0].text),
        rows_(labels(alignment.target)),
        columns_(labels(alignment.source)) {
    const int widest = longest(columns_);
    upright_ = widest + 6 <= kWidestCell;
    cell_width_ = upright_ ? std::max(kCell, widest + 6) : kCell;
    left_ = kMargin + longest(rows_) + 8;
    top_ = kMargin + (title_.empty() ? 0 : 26) + (upright_ ? kFontSize + 8 : widest + 8);
    grid_width_ = cell_width_ * static_cast<int>(columns_.size());
    grid_height_ = kCell * static_cast<int>(rows_.size());
    const int title_width = kMargin + display_width(title_) * kTitleGlyph;
    width_ = std::max({left_ + grid_width_, title_width, kNarrowest}) + kMargin;
    height_ = top_ + grid_height_ + kLegendHeight + kMargin;
  }

  std::string draw() {
    open();
    draw_labels();
    draw_cells();
    draw_outlines();
    draw_legend();
    return svg_ + "</svg>\n";
  }

 private:
  template <class... Arguments>
  void add(const char* format, Arguments... arguments) {
    char text[256];
    std::snprintf(text, sizeof text, format, arguments...);
    svg_ += text;
  }

  void add_text(const std::string& text) { svg_ += escaped(text) + "</text>\n"; }

  void open() {
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\"",
        width_, height_, width_, height_);
    add(" role=\"img\" aria-labelledby=\"title description\" font-family=\"sans-serif\" "
        "font-size=\"%d\" fill=\"%s\">\n",
        kFontSize, kInk);
    svg_ += "<title id=\"title\">" + escaped(title_.empty() ? "Attention" : title_) + "</title>\n";
    svg_ += "<desc id=\"description\">" + escaped(description(alignment_)) + "</desc>\n";
    add("<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", width_, height_);
    if (title_.empty()) return;
    add("<text x=\"%d\" y=\"%d\" font-size=\"%d\" font-weight=\"bold\">", kMargin, kMargin + 12,
        kTitleFontSize);
    add_text(title_);
  }

  void draw_labels() {
    add("<g text-anchor=\"%s\">\n", upright_ ? "middle" : "start");
    for (size_t s = 0; s < columns_.size(); ++s) {
      const int x = left_ + cell_width_ * static_cast<int>(s) + cell_width_ / 2;
      if (upright_) {
        add("<text x=\"%d\" y=\"%d\">", x, top_ - 8);
      } else {
        add("<text transform=\"translate(%d %d)rotate(-90)\">", x + 4, top_ - 6);
      }
      add_text(columns_[s]);
    }
    svg_ += "</g>\n<g text-anchor=\"end\">\n";
    for (size_t t = 0; t < rows_.size(); ++t) {
      add("<text x=\"%d\" y=\"%d\">", left_ - 8, top_ + kCell * static_cast<int>(t) + 16);
      add_text(rows_[t]);
    }
    svg_ += "</g>\n";
  }

  // Calls place(x, y, t, s) with the upper left corner of each cell.
  template <class Place>
  void each_cell(const Place& place) const {
    for (size_t t = 0; t < rows_.size(); ++t) {
      for (size_t s = 0; s < columns_.size(); ++s) {
        place(left_ + cell_width_ * static_cast<int>(s), top_ + kCell * static_cast<int>(t), t, s);
      }
    }
  }

  // White cells are the ground, and the lines between cells are drawn over all.
  void draw_cells() {
    std::array<std::string, kShades.size()> paths;
    each_cell([&](int x, int y, size_t t, size_t s) {
      paths[shade(alignment_.weight(t, s))] += rectangle(x, y, cell_width_, kCell);
    });
    for (size_t i = 1; i < paths.size(); ++i) {
      if (paths[i].empty()) continue;
      svg_ += std::string("<path fill=\"") + kShades[i] + "\" d=\"" + paths[i] + "\"/>\n";
    }
    std::string lines;
    for (size_t s = 0; s <= columns_.size(); ++s) {
      lines += "M" + std::to_string(left_ + cell_width_ * static_cast<int>(s)) + " " +
               std::to_string(top_) + "v" + std::to_string(grid_height_);
    }
    for (size_t t = 0; t <= rows_.size(); ++t) {
      lines += "M" + std::to_string(left_) + " " +
               std::to_string(top_ + kCell * static_cast<int>(t)) + "h" +
               std::to_string(grid_width_);
    }
    add("<path stroke=\"%s\" d=\"", kLine);
    svg_ += lines + "\"/>\n";
  }

  void draw_outlines() {
    std::string path;
    each_cell([&](int x, int y, size_t t, size_t s) {
      if (!alignment_.is_planted(t, s)) return;
      path += rectangle(x + 1, y + 1, cell_width_ - 2, kCell - 2);
    });
    if (path.empty()) return;
    add("<path fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\" d=\"", kOutline);
    svg_ += path + "\"/>\n";
  }

  // Samples of weights, then what an outline means.
  void draw_legend() {
    constexpr std::array<float, 5> kSamples = {0, 0.1F, 0.25F, 0.5F, 1};
    constexpr std::array<const char*, 5> kNames = {"0", ".1", ".25", ".5", "1"};
    constexpr int kSwatch = 24;
    const int y = height_ - kMargin - 28;
    int x = kMargin;
    add("<g font-size=\"11\" fill=\"%s\">\n", kQuietInk);
    for (size_t i = 0; i < kSamples.size(); ++i, x += kSwatch) {
      add("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"12\" fill=\"%s\" stroke=\"%s\"/>", x, y,
          kSwatch, kShades[shade(kSamples[i])], kLine);
      add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x + kSwatch / 2, y + 26,
          kNames[i]);
    }
    add("<text x=\"%d\" y=\"%d\">weight</text>\n", x + 6, y + 10);
    if (!alignment_.planted.empty()) {
      x += 64;
      add("<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"12\" fill=\"none\" stroke=\"%s\" "
          "stroke-width=\"2.5\"/>",
          x, y, kOutline);
      add("<text x=\"%d\" y=\"%d\">where the answer stands</text>\n", x + 22, y + 10);
    }
    svg_ += "</g>\n";
  }

  const Alignment& alignment_;
  std::string title_, svg_;
  std::vector<std::string> rows_, columns_;
  bool upright_ = true;  // column labels; otherwise they are turned
  int cell_width_ = kCell, left_ = 0, top_ = 0, grid_width_ = 0, grid_height_ = 0, width_ = 0,
      height_ = 0;
};

}  // namespace

std::string heat_map_svg(const Alignment& alignment) {
  require_consistent(alignment);
  return Picture(alignment).draw();
}

}  // namespace heed
