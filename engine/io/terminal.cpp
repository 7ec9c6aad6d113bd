#include "engine/io/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace bitloom {

int terminal_columns(int descriptor) {
    if (isatty(descriptor) != 1) return 0;
    constexpr int narrowest = 20, usual = 80;  // what is narrower is no window that somebody reads
    winsize size{};
    return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > narrowest ? size.ws_col : usual;
}

}  // namespace bitloom
