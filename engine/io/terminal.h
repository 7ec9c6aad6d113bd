#pragma once
// What is known of the terminal behind a file descriptor.

namespace bitloom {

/// Its columns, 80 where it does not say; 0 where there is no terminal.
int terminal_columns(int descriptor);

}  // namespace bitloom
