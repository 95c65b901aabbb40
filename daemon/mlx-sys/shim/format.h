/* std::format for the compilers that know C++20 but not yet this header (g++ up to 12).
 * mlx-c writes messages with it, with plain {} only: that much is here. */
#pragma once
#ifdef __cplusplus
#if __has_include(<format>)
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>

namespace std {

template <typename... Values>
string format(string_view pattern, const Values&... values) {
  ostringstream text;
  const auto next = [&](const auto& value) {
    const auto place = pattern.find("{}");
    if (place == string_view::npos) {
      return;
    }
    text << pattern.substr(0, place) << value;
    pattern.remove_prefix(place + 2);
  };
  (next(values), ...);
  text << pattern;
  return text.str();
}

} // namespace std
#endif
#endif
