#include "heed/data/data_sets.h"

#include <cstdlib>

#include "heed/data/error.h"

namespace heed {

const std::vector<DataSet>& known_data_sets() {
  static const std::vector<DataSet> sets = {
      {.name = "tatoeba_cmn_eng",
       .title = "Tatoeba English-Mandarin sentence pairs, gzip of cmn.txt",
       .home = "https://www.manythings.org/anki/ (cmn-eng.zip; sentences from https://tatoeba.org)",
       .licence = "CC BY 2.0 FR",
       .files = {{"tatoeba_cmn_eng/cmn.txt.gz",
                  "bbdcddc329b9b5442702adf507b87e4dac3754ad3d780c5f600f76ace14a5a78"}}},
      {.name = "multi30k",
       .title = "Multi30k task 1, raw German-English image descriptions",
       .home = "https://github.com/multi30k/dataset (data/task1/raw, commit a3d2e0d)",
       .licence = "no licence file; image terms: research and education only",
       .files = {{"multi30k/train.de.gz",
                  "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"},
                 {"multi30k/train.en.gz",
                  "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"},
                 {"multi30k/val.de.gz",
                  "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"},
                 {"multi30k/val.en.gz",
                  "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"},
                 {"multi30k/test_2016_flickr.de.gz",
                  "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"},
                 {"multi30k/test_2016_flickr.en.gz",
                  "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"}}},
  };
  return sets;
}

std::filesystem::path data_folder(const std::string& option) {
  if (!option.empty()) return option;
  const char* environment = std::getenv("HEED_DATA");
  return environment == nullptr ? "" : environment;
}

std::filesystem::path require_data(const std::filesystem::path& folder, const std::string& file) {
  const std::filesystem::path path = folder / file;
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return path;
  std::string message = path.string() + ": no such file";
  if (folder.empty()) message = file + ": no data folder is named (--data or HEED_DATA)";
  for (const DataSet& set : known_data_sets()) {
    for (const DataFile& known : set.files) {
      if (known.path == file) {
        message += "; get " + set.title + " from " + set.home + ", sha256 " + known.sha256;
      }
    }
  }
  throw UserError(message +
                  (folder.empty() ? "" : "; name another folder with --data or HEED_DATA"));
}

}  // namespace heed
