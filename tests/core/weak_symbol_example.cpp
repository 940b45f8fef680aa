// What a kernel file must not be: proves that the check of exported symbols can fail.
namespace heed {

inline __attribute__((noinline)) int shared_inline_function(int x) { return x + 1; }
int weak_symbol_example(int x) { return shared_inline_function(x); }

}  // namespace heed
