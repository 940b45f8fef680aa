#include <iterator>

#include "heed/learn/lesson.h"

namespace heed::learn {

std::vector<Lesson> all_lessons() {
  std::vector<Lesson> all;
  for (const auto group :
       {score_lessons, kernel_lessons, reach_lessons, linear_lessons, position_lessons,
        multi_head_lessons, hierarchical_lessons, decoding_lessons, set_lessons, channel_lessons,
        pixel_lessons, transformer_lessons}) {
    std::vector<Lesson> lessons = group();
    all.insert(all.end(), std::make_move_iterator(lessons.begin()),
               std::make_move_iterator(lessons.end()));
  }
  return all;
}

}  // namespace heed::learn
