#include "bench/support/pytorch_process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <utility>

#include "engine/error.h"

namespace bitloom::bench {

PytorchProcess::PytorchProcess(const std::string& python, const std::string& script, bool spinning) {
    int request[2], answer[2];
    require(pipe(request) == 0 && pipe(answer) == 0, "bench: cannot open a pipe");
    pid_ = fork();
    require(pid_ >= 0, "bench: cannot start a process");
    if (pid_ == 0) {
        dup2(request[0], STDIN_FILENO);
        dup2(answer[1], STDOUT_FILENO);
        for (int end : {request[0], request[1], answer[0], answer[1]}) close(end);
        if (spinning)
            unsetenv("OMP_WAIT_POLICY");
        else
            setenv("OMP_WAIT_POLICY", "passive", 1);
        execlp(python.c_str(), python.c_str(), script.c_str(), static_cast<char*>(nullptr));
        _exit(127);
    }
    close(request[0]);
    close(answer[1]);
    to_ = request[1], from_ = answer[0];
    signal(SIGPIPE, SIG_IGN);  // a write to a process that ended is an error, not the end
    const std::string first = read_line();
    const std::size_t space = first.find(' ');
    available_ = first.substr(0, space) == "ready";
    words_ = space == std::string::npos ? "'" + python + "' could not be started" : first.substr(space + 1);
}

PytorchProcess::~PytorchProcess() {
    close(to_);  // the end of its input ends it
    close(from_);
    waitpid(pid_, nullptr, 0);
}

std::vector<double> PytorchProcess::ask(const std::string& request) {
    const std::string line = request + "\n";
    require(write(to_, line.data(), line.size()) == static_cast<ssize_t>(line.size()),
            "bench: the PyTorch process has ended");
    std::istringstream answer(read_line());
    std::vector<double> times;
    for (double t; answer >> t;) times.push_back(t);
    require(!times.empty(), "bench: the PyTorch process did not answer '", request, "'");
    return times;
}

std::string PytorchProcess::read_line() {
    while (buffer_.find('\n') == std::string::npos) {
        char part[4096];
        const ssize_t n = read(from_, part, sizeof part);
        if (n <= 0) return std::exchange(buffer_, {});
        buffer_.append(part, static_cast<std::size_t>(n));
    }
    const std::size_t end = buffer_.find('\n');
    const std::string line = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
    return line;
}

}  // namespace bitloom::bench
