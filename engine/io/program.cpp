#include "engine/io/program.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <new>
#include <string>

#include "engine/error.h"
#include "engine/io/flags.h"

namespace bitloom {

namespace {

/// One line, whatever the message: names from files and arguments may hold anything, a terminal's commands too.
void report(const std::string& program, std::string message) {
    std::replace_if(
        message.begin(), message.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    std::cerr << program << ": " << message << std::endl;
}

std::string program_name(int argc, char** argv) {
    const std::string path = argc > 0 && argv[0] ? argv[0] : "bitloom";
    return path.substr(path.find_last_of('/') + 1);
}

}  // namespace

int run_program(int argc, char** argv, const std::function<int(int, char**)>& body) {
    const std::string program = program_name(argc, argv);
    int status = 1;
    try {
        status = body(argc, argv);
    } catch (const HelpRequested& help) {
        std::cout << help.what();
        status = 0;
    } catch (const UsageError& error) {
        report(program, error.what());
        std::cerr << "Try '" << program << " --help'." << std::endl;
        return 2;
    } catch (const std::bad_alloc&) {
        report(program, "out of memory");
        return 1;
    } catch (const std::exception& error) {
        report(program, error.what());
        return 1;
    }
    // Results that did not reach a full disk or a closed pipe are no success.
    std::cout.flush();
    if (!std::cout || std::fflush(stdout) != 0 || std::ferror(stdout)) {
        report(program, "cannot write to standard output");
        return status == 0 ? 1 : status;
    }
    return status;
}

}  // namespace bitloom
