#include "apps/common/gnuplot.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <vector>

#include "engine/error.h"
#include "engine/io/atomic_file.h"

extern char** environ;

namespace bitloom {
namespace {

std::string script_of(const std::string& name, const std::string& body, FigureSize size) {
    const auto inches = [](int pixels) { return static_cast<double>(pixels) / 100; };
    return cat("# Draw again with: gnuplot ", name, ".gp (as PDF: gnuplot -e pdf=1 ", name, ".gp)\n",
               "if (exists('pdf')) set terminal pdfcairo size ", inches(size.width), ",", inches(size.height),
               " noenhanced font 'sans,11'\n", "if (exists('pdf')) set output ", gnuplot_string(name + ".pdf"), "\n",
               "if (!exists('pdf')) set terminal svg size ", size.width, ",", size.height,
               " dynamic noenhanced font 'sans-serif,13' background '#ffffff' name ", gnuplot_string(name), "\n",
               "if (!exists('pdf')) set output ", gnuplot_string(name + ".svg"), "\n",
               "set encoding utf8\nset datafile separator ','\n", body);
}

// Exit status of gnuplot run in `folder` with its messages in `log` there; -1 where it cannot be started.
int run_gnuplot(const std::string& folder, std::vector<std::string> arguments, const std::string& log) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    std::string program = "gnuplot";
    std::vector<char*> pointers{program.data()};
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    pid_t child = 0;
    const int error = posix_spawnp(&child, "gnuplot", &actions, nullptr, pointers.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return -1;
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

void FigureFolder::write(const std::string& name, const std::string& text) const {
    write_file_atomically(*this / name, text);
}

bool FigureFolder::draw(const std::string& name, const std::string& body, FigureSize size) {
    const std::string script = name + ".gp", log = name + ".log";
    write(script, script_of(name, body, size));
    const auto remove_figures = [&] {
        for (const char* suffix : {".svg", ".pdf"}) std::filesystem::remove(*this / (name + suffix));
    };
    remove_figures();  // an older one must not be taken for one of these data
    if (gnuplot_is_missing_) return false;
    int status = run_gnuplot(path_, {script}, log);
    if (status == 0) status = run_gnuplot(path_, {"-e", "pdf=1", script}, log);
    if (status == 0) {
        std::filesystem::remove(*this / log);
        return true;
    }
    remove_figures();                     // empty or half drawn
    if (status == -1 || status == 127) {  // 127: what glibc's spawn reports through the child where exec fails
        gnuplot_is_missing_ = true;
        std::filesystem::remove(*this / log);
        std::cerr << "gnuplot not found: no figures in " << path_ << " (later: gnuplot " << script << " there)\n";
    } else {
        std::cerr << "gnuplot failed: no figure " << name << "; its messages are in " << *this / log << "\n";
    }
    return false;
}

std::string gnuplot_string(const std::string& text) {
    std::string quoted = "'";
    for (const char c : text) {
        if (c == '\'') quoted += '\'';
        quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return quoted + "'";
}

}  // namespace bitloom
