// The data sets that configurations name: where each is published, under which licence, and the
// checksum of every file. The program fetches nothing: it says what is missing.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace heed {

struct DataFile {
  std::string path;    // inside the data folder, such as "multi30k/train.de.gz"
  std::string sha256;  // of the file as kept there
};

struct DataSet {
  std::string name, title, home, licence;
  std::vector<DataFile> files;
};

const std::vector<DataSet>& known_data_sets();

// The file's path, or a UserError that says what is missing, its public home and its checksum.
std::filesystem::path require_data(const std::filesystem::path& data_folder,
                                   const std::string& file);

// The folder named by --data, else by HEED_DATA, else "".
std::filesystem::path data_folder(const std::string& option);

}  // namespace heed
