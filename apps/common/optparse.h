#pragma once
// Command lines in the manner of Python's optparse, as the published plotting programs take them.

#include <string>
#include <vector>

#include "apps/common/common_flags.h"
#include "engine/io/flags.h"

namespace bitloom {

/// Takes bundled short options apart, so that Flags can read them: "-wPR" becomes "-w -P -R", "-ofolder" "-o folder".
/// `switches` and `valued`: the letters of options without and with a value. Words that follow '--', values of options,
/// and what is no such bundle stay as they are.
std::vector<std::string> expand_short_options(int argc, const char* const* argv, const std::string& switches,
                                              const std::string& valued);

/// Flags::parse of such a command line.
void parse_short_options(Flags& flags, int argc, const char* const* argv, const std::string& switches,
                         const std::string& valued);

/// The flags of every program as the plotting ones have them: the folder of the results is plots/ where none is given, and may
/// be written -o and --outdir.
void add_plotting_flags(Flags& flags, CommonFlags& common);

/// "a;b;c" as a list, blanks around entries stripped, empty entries left out.
std::vector<std::string> split_semicolons(const std::string& text);

}  // namespace bitloom
