// Text files by lines: plain or gzip, checked UTF-8, whatever the line ends.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace heed {

// All lines without their ends (LF or CRLF) and without a leading byte order mark. UserError when
// the file is missing, broken, or has a line that is not UTF-8 (naming the line and the byte).
std::vector<std::string> read_lines(const std::filesystem::path& file);

}  // namespace heed
