# Turns the text file INPUT into the C++ source OUTPUT that defines heed::kPageTemplate.
file(READ "${INPUT}" text)
file(WRITE "${OUTPUT}" "namespace heed {
extern const char* const kPageTemplate;
const char* const kPageTemplate = R\"heed_page(${text})heed_page\";
}  // namespace heed
")
