// The page is page.html with the sample in its data element replaced.
#include "heed/explain/page.h"

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>

#include "heed/explain/token_label.h"

namespace heed {

extern const char* const kPageTemplate;  // page.html, by embed.cmake

namespace {

using Json = nlohmann::ordered_json;

Json tokens(const std::vector<std::string>& side) {
  Json list = Json::array();
  for (const TokenLabel& label : token_labels(side))
    list.push_back({{"text", label.text}, {"alone", label.alone()}, {"space", label.starts_word}});
  return list;
}

// Rows as text, so that the page shows the very digits that JSON output has.
Json rows(const Alignment& alignment) {
  Json list = Json::array();
  for (size_t t = 0; t < alignment.target.size(); ++t) {
    std::string row;
    for (size_t s = 0; s < alignment.source.size(); ++s) {
      if (s > 0) row += ' ';
      row += format_weight(alignment.weight(t, s));
    }
    list.push_back(std::move(row));
  }
  return list;
}

// JSON that cannot end its script element: everything beyond ASCII and all of < > & escaped.
std::string inert(const Json& data) {
  std::string text;
  for (const char c : data.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace)) {
    if (c == '<')
      text += "\\u003c";
    else if (c == '>')
      text += "\\u003e";
    else if (c == '&')
      text += "\\u0026";
    else
      text += c;
  }
  return text;
}

}  // namespace

std::string attention_page(std::span<const Alignment> alignments) {
  Json data = Json::array();
  for (const Alignment& alignment : alignments) {
    require_consistent(alignment);
    data.push_back({{"title", alignment.title},
                    {"sourceText", alignment.source_text},
                    {"targetText", alignment.target_text},
                    {"score", alignment.score},
                    {"source", tokens(alignment.source)},
                    {"target", tokens(alignment.target)},
                    {"rows", rows(alignment)}});
  }
  constexpr std::string_view kOpen = R"(<script type="application/json" id="alignments">)";
  const std::string_view page = kPageTemplate;
  const size_t open = page.find(kOpen);
  const size_t close = page.find("</script>", open);
  if (open == page.npos || close == page.npos)
    throw std::logic_error("page.html has no data element");
  return std::string(page.substr(0, open + kOpen.size())) + inert(data) +
         std::string(page.substr(close));
}

}  // namespace heed
