#pragma once
// A program's flags, one of each kind.

#include "engine/io/flags.h"

namespace bitloom::fuzz {

class EveryFlag {
   public:
    EveryFlag() {
        flags.add("resume", boolean, "a boolean");
        flags.add("epochs", integer, "an integer", {.min = 1, .max = 1000});
        flags.add("lr", number, "a number", {.min = 0});
        flags.add("schedule", text, "a text");
        flags.add("optimizer", choice, "one of several", {.choices = {"sgd", "adam", ""}});
        flags.add("Filters", integers, "integers", {.min = 1});
        flags.add("Dropout", numbers, "numbers", {.min = 0, .max = 1});
        flags.add("names", texts, "texts");
        flags.alias("n", "epochs");
    }
    bool boolean = false;
    std::int64_t integer = 1;
    double number = 0;
    std::string text, choice;
    std::vector<std::int64_t> integers;
    std::vector<double> numbers;
    std::vector<std::string> texts;
    Flags flags{"fuzz", "Reads flags."};
};

}  // namespace bitloom::fuzz
