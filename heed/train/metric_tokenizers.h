// The tokenizers of BLEU. Scores compare only under equal tokenization, so these give the tokens
// that sacreBLEU gives, its oddities included.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace heed {

enum class BleuTokenizer { k13a, kZh, kNone };

std::string_view name_of(BleuTokenizer tokenizer);          // "13a", "zh", "none"
BleuTokenizer bleu_tokenizer_named(std::string_view name);  // throws UserError

// `k13a`: mteval-v13a, for languages that put spaces between words. `kZh`: each Chinese character
// is a token, the rest as 13a. `kNone`: the text is already tokenized.
std::vector<std::string> tokenize(std::string_view text, BleuTokenizer tokenizer);

}  // namespace heed
