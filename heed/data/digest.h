// SHA-256 of bytes and of files, in lower-case hexadecimal.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace heed {

std::string sha256(std::string_view bytes);
std::string sha256_of_file(const std::filesystem::path& path);  // throws UserError

}  // namespace heed
