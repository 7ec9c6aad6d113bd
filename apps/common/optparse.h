#pragma once
// Command lines in the manner of Python's optparse, as the published plotting programs take them.

#include <string>
#include <vector>

namespace bitloom {

/// Takes bundled short options apart, so that Flags can read them: "-wPR" becomes "-w -P -R", "-ofolder" "-o folder".
/// `switches` and `valued`: the letters of options without and with a value. Words that follow '--', values of options,
/// and what is no such bundle stay as they are.
std::vector<std::string> expand_short_options(int argc, const char* const* argv, const std::string& switches,
                                              const std::string& valued);

/// "a;b;c" as a list, blanks around entries stripped, empty entries left out.
std::vector<std::string> split_semicolons(const std::string& text);

}  // namespace bitloom
