// Writes pages for made-up alignments, and their JSON lines, into a folder: page_driver FOLDER.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "heed/explain/alignment.h"
#include "heed/explain/page.h"
#include "samples.h"

namespace {

using heed::Alignment;

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

void write_case(const std::string& folder, const char* name,
                const std::vector<Alignment>& alignments) {
  std::string lines;
  for (const Alignment& alignment : alignments) lines += heed::alignment_json(alignment) + "\n";
  write(folder + "/" + name + ".jsonl", lines);
  write(folder + "/" + name + ".html", heed::attention_page(alignments));
}

Alignment station() {
  return {.source = {"▁Where", "▁is", "▁the", "▁st", "ation", "?"},
          .target = {"▁车站", "在", "哪里", "？"},
          .weights = {0.03F, 0.02F, 0.08F, 0.42F, 0.43F, 0.02F,  //
                      0.12F, 0.71F, 0.05F, 0.04F, 0.05F, 0.03F,  //
                      0.82F, 0.10F, 0.01F, 0.02F, 0.02F, 0.03F,  //
                      0.01F, 0.01F, 0.01F, 0.01F, 0.02F, 0.94F},
          .source_text = "Where is the station?",
          .target_text = "车站在哪里？",
          .score = -0.87};
}

Alignment sentence() {
  Alignment alignment = heed::samples::diagonal(17, 14, 0.9);
  alignment.source = {"▁I",      "▁have", "▁never",     "▁seen", "▁such", "▁an",     "▁extra",
                      "ordinar", "ily",   "▁beautiful", "▁sun",  "set",   "▁before", "."};
  alignment.target = {"▁我", "以前", "从", "来", "没有", "见", "过", "这么", "美丽",
                      "得",  "出奇", "的", "日", "落",   "景", "色", "。"};
  alignment.source_text = "I have never seen such an extraordinarily beautiful sunset before.";
  alignment.target_text = "我以前从来没有见过这么美丽得出奇的日落景色。";
  return alignment;
}

Alignment hostile() {
  return {.source = {"▁</script><script>document.title='owned'</script>", "▁<!--",
                     "\xe2\x80\xa8&amp;\"'", "\xff\xfe"},
          .target = {"▁<img src=x onerror=alert(1)>", "\u202eabc", "👩‍👩‍👧"},
          .weights = {0.25F, 0.25F, 0.25F, 0.25F, 1e-6F, 0, 0, 0.999999F, 0, 1, 0, 0},
          .source_text =
              "</script ><script x>document.title='owned'</script/> <!-- <script \u2028 \xff",
          .target_text = "<img src=x onerror=alert(1)> \u202eabc 👩‍👩‍👧",
          .score = -2};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) throw std::runtime_error("usage: page_driver FOLDER");
  write_case(argv[1], "one", {heed::samples::love()});
  write_case(argv[1], "several", {heed::samples::love(), station(), sentence()});
  write_case(argv[1], "large", {heed::samples::diagonal(60, 60, 1.2)});
  write_case(argv[1], "hostile", {hostile()});
  write_case(argv[1], "none", {});
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
