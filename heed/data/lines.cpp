#include "heed/data/lines.h"

#include <zlib.h>

#include <memory>

#include "heed/data/error.h"
#include "heed/data/text.h"

namespace heed {
namespace {

std::string read_whole(const std::filesystem::path& file) {
  if (std::filesystem::is_directory(file)) {
    throw UserError(file.string() + ": is a folder, expected a text file");
  }
  // zlib passes plain files through unchanged.
  std::unique_ptr<gzFile_s, int (*)(gzFile)> input(gzopen(file.c_str(), "rb"), gzclose);
  if (!input) throw UserError(file.string() + ": no such file, or it can't be read");
  gzbuffer(input.get(), 1 << 17);
  std::string text;
  std::vector<char> buffer(1 << 17);
  int count = 0;
  while ((count = gzread(input.get(), buffer.data(), static_cast<unsigned>(buffer.size()))) > 0) {
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  int status = Z_OK;
  const char* reason = gzerror(input.get(), &status);
  // A gzip file cut off in its stream ends without an error code from gzread but with Z_BUF_ERROR.
  if (count < 0 || status == Z_BUF_ERROR) {
    throw UserError(file.string() + ": broken gzip file (" + reason + "); copy it again");
  }
  return text;
}

}  // namespace

std::vector<std::string> read_lines(const std::filesystem::path& file) {
  const std::string text = read_whole(file);
  std::vector<std::string> lines;
  size_t begin = text.rfind("\xEF\xBB\xBF", 0) == 0 ? 3 : 0;
  while (begin < text.size()) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    const bool carriage_return = end > begin && text[end - 1] == '\r';
    lines.push_back(text.substr(begin, end - begin - (carriage_return ? 1 : 0)));
    begin = end + 1;
    const size_t valid = valid_utf8_prefix(lines.back());
    if (valid < lines.back().size()) {
      throw UserError(file.string() + ":" + std::to_string(lines.size()) + ": not UTF-8 at byte " +
                      std::to_string(valid + 1) + "; convert the file with iconv -t UTF-8");
    }
  }
  return lines;
}

}  // namespace heed
