#pragma once
// PyTorch's side of a comparison: pytorch_bench.py as a process that times a burst for each line it is sent.

#include <string>
#include <vector>

namespace bitloom::bench {

class PytorchProcess {
   public:
    /// Starts `python script`; `spinning`: with the OpenMP runtime's own way of waiting, else with sleeping threads.
    PytorchProcess(const std::string& python, const std::string& script, bool spinning);
    ~PytorchProcess();
    PytorchProcess(const PytorchProcess&) = delete;
    PytorchProcess& operator=(const PytorchProcess&) = delete;

    /// False where it cannot be used; `words` then says why, and else which version it is.
    bool available() const { return available_; }
    const std::string& words() const { return words_; }
    /// Sends one line and returns the numbers of the answer. Throws Error where there is no proper answer.
    std::vector<double> ask(const std::string& request);

   private:
    std::string read_line();
    int to_ = -1, from_ = -1, pid_ = -1;
    bool available_ = false;
    std::string words_, buffer_;
};

}  // namespace bitloom::bench
