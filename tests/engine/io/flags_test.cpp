#include "engine/io/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <random>

#include "engine/io/atomic_file.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

/// The flags of a small training program.
struct Program {
    std::int64_t epochs = 100, folds = 10;
    double lr = 3e-3, beta_1 = 0.9;
    bool prune = false, shuffle = true, no_cache = false;
    std::string outdir, dataset = "digits";
    std::vector<std::string> layers;
    std::vector<std::int64_t> filters{16, 16, 24};
    std::vector<double> dropout;
    Flags flags{"train", "Trains a model."};

    Program() {
        flags.group("Training");
        flags.add("epochs", epochs, "passes over the training set", {.min = 1, .max = 1000});
        flags.add("folds", folds, "number of folds", {.min = 0});
        flags.add("lr", lr, "learning rate", {.min = 0});
        flags.add("beta_1", beta_1, "decay of the first moment", {.min = 0, .below = 1});
        flags.add("prune", prune, "prune by magnitude");
        flags.add("shuffle", shuffle, "shuffle every epoch");
        flags.add("no-cache", no_cache, "read the images anew");
        flags.group("Input and output");
        flags.add("out-dir", outdir, "folder of the results");
        flags.add("dataset", dataset, "images to train on", {.choices = {"digits", "svhn", "mnist"}});
        flags.add("layers", layers, "names of layers");
        flags.add("Filters", filters, "filters of each convolution", {.min = 1});
        flags.add("Dropout", dropout, "dropout of each layer", {.min = 0, .max = 1});
        flags.alias("outdir", "out-dir");
        flags.alias("n", "folds");
        flags.positional("NAME", "runs", 0, 3);
        flags.example("--dataset svhn --epochs 3", "three epochs");
    }
    std::vector<std::string> parse(std::vector<const char*> arguments) {
        arguments.insert(arguments.begin(), "train");
        return flags.parse(static_cast<int>(arguments.size()), arguments.data());
    }
};

/// The message of wrong usage.
std::string error_of(const std::vector<const char*>& arguments) {
    return message_of<UsageError>([&] { Program().parse(arguments); });
}

TEST(Flags, DefaultsStand) {
    Program p;
    EXPECT_THAT(p.parse({}), IsEmpty());
    EXPECT_EQ(p.epochs, 100);
    EXPECT_FALSE(p.flags.given("epochs"));
    EXPECT_THAT(p.filters, ElementsAre(16, 16, 24));
}

TEST(Flags, BothSpellingsAndBothDashes) {
    Program p;
    EXPECT_THAT(p.parse({"--epochs=3", "-folds", "4", "--lr", "1e-2", "-outdir=a=b", "--beta-1=.5"}), IsEmpty());
    EXPECT_EQ(p.epochs, 3);
    EXPECT_EQ(p.folds, 4);
    EXPECT_EQ(p.lr, 1e-2);
    EXPECT_EQ(p.outdir, "a=b");  // only the first '=' separates
    EXPECT_EQ(p.beta_1, 0.5);    // '-' and '_' alike
    EXPECT_TRUE(p.flags.given("epochs"));
    EXPECT_TRUE(p.flags.given("out_dir"));
    Program q;
    q.parse({"-n", "7", "--outdir="});
    EXPECT_EQ(q.folds, 7);
    EXPECT_EQ(q.outdir, "");
}

TEST(Flags, ValuesMayLookLikeFlags) {
    Program p;
    EXPECT_THAT(p.parse({"--out-dir", "--epochs"}), IsEmpty());
    EXPECT_EQ(p.outdir, "--epochs");
    EXPECT_THAT(error_of({"--lr", "-1"}), HasSubstr("--lr: must be at least 0, got -1"));
}

TEST(Flags, Booleans) {
    const auto prune = [](std::vector<const char*> arguments) {
        Program p;
        p.prune = !p.shuffle;
        p.parse(std::move(arguments));
        return std::pair(p.prune, p.shuffle);
    };
    EXPECT_EQ(prune({"--prune", "--noshuffle"}), std::pair(true, false));
    EXPECT_EQ(prune({"-prune", "-no-shuffle"}), std::pair(true, false));
    EXPECT_EQ(prune({"--prune=True", "--shuffle=False"}), std::pair(true, false));
    EXPECT_EQ(prune({"--prune=1", "--shuffle=f"}), std::pair(true, false));
    EXPECT_EQ(prune({"--prune", "--noprune", "--no_prune", "--shuffle"}), std::pair(false, true));
    EXPECT_EQ(error_of({"--prune=maybe"}), "--prune: needs true or false, got 'maybe'");
    EXPECT_EQ(error_of({"--noprune=true"}), "--noprune takes no value; write --prune=true");
    EXPECT_THAT(error_of({"--noepochs"}), HasSubstr("unknown flag '--noepochs'"));
    Program p;  // a boolean takes no separate value: the word is an argument
    EXPECT_THAT(p.parse({"--prune", "False"}), ElementsAre("False"));
    EXPECT_TRUE(p.prune);
}

TEST(Flags, LaterWins) {
    Program p;
    p.parse({"--epochs=3", "--epochs=4", "--Filters=1,2", "--Filters=3"});
    EXPECT_EQ(p.epochs, 4);
    EXPECT_THAT(p.filters, ElementsAre(3));  // a list is replaced, not extended
}

TEST(Flags, ListsAreReadLikeCsv) {
    const auto layers = [](const char* text) {
        Program p;
        p.parse({"--layers", text});
        return p.layers;
    };
    EXPECT_THAT(layers("a, b ,c"), ElementsAre("a", "b", "c"));
    EXPECT_THAT(layers(""), IsEmpty());
    EXPECT_THAT(layers("\"a,b\",c"), ElementsAre("a,b", "c"));
    EXPECT_THAT(layers("\"say \"\"hi\"\"\""), ElementsAre("say \"hi\""));
    EXPECT_THAT(layers("a,"), ElementsAre("a", ""));
    EXPECT_THAT(layers("a\"b,c"), ElementsAre("a\"b", "c"));
    EXPECT_THAT(error_of({"--layers=\"a,b"}), HasSubstr("--layers: has an unfinished quote"));
    EXPECT_THAT(error_of({"--layers=\"a\"b"}), HasSubstr("needs a comma after the closing quote"));
    Program p;
    p.parse({"--Filters=16, 0x10,24", "--Dropout=0.0,0.5"});
    EXPECT_THAT(p.filters, ElementsAre(16, 16, 24));
    EXPECT_THAT(p.dropout, ElementsAre(0.0, 0.5));
    EXPECT_EQ(error_of({"--Filters=16,x"}), "--Filters: needs an integer, got 'x'");
    EXPECT_EQ(error_of({"--Filters=16,"}), "--Filters: needs an integer, got ''");
    EXPECT_EQ(error_of({"--Filters=16,0"}), "--Filters: must be at least 1, got 0");
}

TEST(Flags, DoubleDashEndsTheFlags) {
    Program p;
    EXPECT_THAT(p.parse({"a", "--epochs=2", "-", "--", "--epochs=9"}), ElementsAre("a", "-", "--epochs=9"));
    EXPECT_EQ(p.epochs, 2);
}

TEST(Flags, NumbersAreReadWhole) {
    for (const char* bad : {"--epochs=3x", "--epochs=", "--epochs=1e3", "--epochs=2.0", "--epochs=--3", "--epochs=+-3"})
        EXPECT_THAT(error_of({bad}), HasSubstr("--epochs: needs an integer")) << bad;
    for (const char* bad : {"--lr=", "--lr=1.5.2", "--lr=abc", "--lr=+-1"})
        EXPECT_THAT(error_of({bad}), HasSubstr("--lr: needs a number")) << bad;
    for (const char* bad : {"--lr=nan", "--lr=inf"}) EXPECT_THAT(error_of({bad}), HasSubstr("finite")) << bad;
    EXPECT_THAT(error_of({"--folds=9223372036854775808"}), HasSubstr("needs a 64-bit integer"));
    Program p;
    p.parse({"--folds=9223372036854775807", "--lr=+0.5"});
    EXPECT_EQ(p.folds, INT64_MAX);
    EXPECT_EQ(p.lr, 0.5);
    std::int64_t low = 0;
    Flags flags("p", "");
    flags.add("low", low, "");
    const char* arguments[] = {"p", "--low=-9223372036854775808"};
    flags.parse(2, arguments);
    EXPECT_EQ(low, INT64_MIN);
}

TEST(Flags, BoundsAndChoices) {
    EXPECT_EQ(error_of({"--epochs=0"}), "--epochs: must be at least 1, got 0");
    EXPECT_EQ(error_of({"--epochs=1001"}), "--epochs: must be at most 1000, got 1001");
    EXPECT_EQ(error_of({"--beta_1=1"}), "--beta_1: must be below 1, got 1");
    EXPECT_EQ(error_of({"--dataset=shvn"}),
              "--dataset: must be one of digits, svhn, mnist, got 'shvn'; did you mean svhn?");
    Program p;  // every occurrence is checked, also one that is replaced
    EXPECT_THROW(p.parse({"--epochs=0", "--epochs=5"}), UsageError);
}

TEST(Flags, UnknownFlagsGetASuggestion) {
    EXPECT_EQ(error_of({"--epoch", "3"}), "unknown flag '--epoch'; did you mean --epochs?");
    EXPECT_EQ(error_of({"--epoc=3"}), "unknown flag '--epoc'; did you mean --epochs?");
    EXPECT_EQ(error_of({"--epohcs=3"}), "unknown flag '--epohcs'; did you mean --epochs?");
    EXPECT_EQ(error_of({"--filters=3"}), "unknown flag '--filters'; did you mean --Filters?");
    EXPECT_EQ(error_of({"--nprune"}), "unknown flag '--nprune'; did you mean --prune?");
    EXPECT_EQ(error_of({"--something-else"}), "unknown flag '--something-else'");
    EXPECT_THAT(error_of({"--=3"}), HasSubstr("unknown flag '--'"));
    EXPECT_EQ(error_of({"--epochs"}), "--epochs needs a value (INT)");
    EXPECT_EQ(error_of({"a", "b", "c", "d"}), "unexpected argument 'd'");
}

TEST(Flags, FlagFilesStandWhereTheyAreNamed) {
    TemporaryFolder folder;
    const std::string inner = folder.file("inner.cfg"), outer = folder.file("outer.cfg");
    put(inner, "--lr=0.5\r\n--Filters=1, 2\n");
    put(outer, "\xef\xbb\xbf# the published settings\n\n   // another comment\n--epochs=20\n--flagfile=" + inner +
                   "\n  --folds 3  \n--prune\n--noshuffle\n--out-dir=a=b # c\n-dataset=svhn");
    const std::string named = "--flagfile=" + outer;
    Program p;
    p.parse({"--epochs=7", "--folds=8", named.c_str(), "--folds", "9"});
    EXPECT_EQ(p.epochs, 20);  // before the file: replaced by it
    EXPECT_EQ(p.folds, 9);    // after it: wins
    EXPECT_EQ(p.lr, 0.5);
    EXPECT_THAT(p.filters, ElementsAre(1, 2));
    EXPECT_TRUE(p.prune);
    EXPECT_FALSE(p.shuffle);
    EXPECT_EQ(p.outdir, "a=b # c");  // a comment starts its line
    EXPECT_EQ(p.dataset, "svhn");
    Program q;
    q.parse({"--flagfile", inner.c_str(), "--flagfile", inner.c_str()});  // twice in a row is no circle
    EXPECT_EQ(q.lr, 0.5);
}

TEST(Flags, FlagFileErrorsNameFileAndLine) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.cfg");
    const auto error = [&](const std::string& contents) {
        put(path, contents);
        const std::string text = error_of({"--flagfile", path.c_str()});
        EXPECT_THAT(text, ::testing::StartsWith(path));
        return text.substr(path.size());
    };
    EXPECT_EQ(error("# c\n--epochs=0\n"), ":2: --epochs: must be at least 1, got 0");
    EXPECT_EQ(error("\n\n--epoch=0\n"), ":3: unknown flag '--epoch'; did you mean --epochs?");
    EXPECT_EQ(error("epochs=3\n"), ":1: 'epochs=3' is not a flag (one a line: --name=value)");
    EXPECT_EQ(error("--\n"), ":1: '--' is not a flag (one a line: --name=value)");
    EXPECT_EQ(error("--epochs\n3\n"), ":1: --epochs needs a value (INT)");
    EXPECT_EQ(error("--prune True\n"), ":1: --prune is a boolean: write --prune=True");
    EXPECT_EQ(error("--flagfile=" + path), ":1: flag file " + path + " includes itself");
    EXPECT_EQ(error("--flagfile=/none.cfg"), ":1: flag file /none.cfg: No such file or directory");
    EXPECT_EQ(error_of({"--flagfile=/none.cfg"}), "flag file /none.cfg: No such file or directory");
    EXPECT_EQ(error_of({"--flagfile"}), "--flagfile needs a value (a file)");
    EXPECT_EQ(error_of({"--flagfile=/dev/zero"}), "flag file /dev/zero: longer than 16777216 bytes");
}

TEST(Flags, RandomBytesNeverCrash) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.cfg"), argument = "--flagfile=" + path;
    std::mt19937 random(5);
    const std::string words[] = {"--", "-",     "epochs", "=",      "\n", ",", "\"",     "3",
                                 "no", "prune", "#",      "config", "\0", " ", "Filters"};
    for (int i = 0; i < 400; ++i) {
        std::string contents;
        const std::size_t length = random() % 60;
        while (contents.size() < length) {
            if (i % 2)
                contents += words[random() % std::size(words)];
            else
                contents += static_cast<char>(random());
        }
        put(path, contents);
        try {
            Program().parse({argument.c_str()});
            Program().parse({contents.c_str(), contents.c_str()});
        } catch (const UsageError& error) {
            EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
        } catch (const HelpRequested&) {
        }
        try {
            Program().flags.fill_from_json(contents, "record");
        } catch (const UsageError& error) {
            EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
        }
    }
}

TEST(Flags, ConfigurationFilesGiveWayToFlags) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.json"), flagfile = folder.file("a.cfg");
    put(path,
        R"({"epochs": 5, "lr": 1, "prune": true, "out_dir": "x", "Filters": [1, 2], "layers": ["a,b"], "folds": "0x4",
                 "Dropout": "0.5,0.25", "dataset": null /* as it was */})");
    Program p;
    p.parse({"--epochs=3", "--config", path.c_str()});
    EXPECT_EQ(p.epochs, 3);
    EXPECT_EQ(p.lr, 1.0);
    EXPECT_TRUE(p.prune);
    EXPECT_EQ(p.outdir, "x");
    EXPECT_THAT(p.filters, ElementsAre(1, 2));
    EXPECT_THAT(p.layers, ElementsAre("a,b"));
    EXPECT_EQ(p.folds, 4);
    EXPECT_THAT(p.dropout, ElementsAre(0.5, 0.25));
    EXPECT_EQ(p.dataset, "digits");
    EXPECT_TRUE(p.flags.given("lr"));
    EXPECT_FALSE(p.flags.given("dataset"));
    put(flagfile, "--config=" + path + "\n--lr=2\n");
    Program q;
    q.parse({"--flagfile", flagfile.c_str()});
    EXPECT_EQ(q.lr, 2);
    EXPECT_EQ(q.epochs, 5);
}

TEST(Flags, ConfigurationErrorsNameTheFile) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.json");
    const auto error = [&](const std::string& contents) {
        put(path, contents);
        const std::string text = error_of({"--config", path.c_str()});
        EXPECT_THAT(text, ::testing::StartsWith(path + ": "));
        return text.substr(path.size() + 2);
    };
    EXPECT_EQ(error(R"({"epochs": 0})"), "--epochs: must be at least 1, got 0");
    EXPECT_EQ(error(R"({"config": "b.json"})"), "'--config' belongs on the command line or in a flag file");
    EXPECT_EQ(error(R"({"epochs": 1.5})"), "--epochs: needs INT, got '1.5'");
    EXPECT_EQ(error(R"({"epochs": true})"), "--epochs: needs INT, got 'true'");
    EXPECT_EQ(error(R"({"epochs": 18446744073709551615})"), "--epochs: needs INT, got '18446744073709551615'");
    EXPECT_EQ(error(R"({"prune": 1})"), "--prune: needs BOOL, got '1'");
    EXPECT_EQ(error(R"({"Filters": [1, "a"]})"), "--Filters: needs INT,..., got '[1,\"a\"]'");
    EXPECT_EQ(error(R"({"epoch": 1})"), "unknown flag '--epoch'; did you mean --epochs?");
    EXPECT_EQ(error("[1]"), "needs a JSON object {\"flag\": value, ...}");
    EXPECT_THAT(error("{\"epochs\": 1,\n"), HasSubstr("not JSON: parse error at line 2"));
    EXPECT_THAT(error(""), HasSubstr("not JSON"));
    EXPECT_EQ(error_of({"--config=/none.json"}), "configuration /none.json: No such file or directory");
}

TEST(Flags, RecordRestoresARun) {
    Program p;
    p.parse({"--epochs=3", "--lr=0.1", "--noshuffle", "--layers=\"a,b\",c", "--Dropout=0.1", "--out-dir=\xc3\xb6"});
    Program q;
    q.parse({"--lr=0.2"});
    q.flags.fill_from_json(p.flags.to_json(), "checkpoint");
    EXPECT_EQ(q.lr, 0.2);  // given anew
    q.lr = 0.1;
    EXPECT_EQ(q.flags.to_json(), p.flags.to_json());
    EXPECT_EQ(q.epochs, 3);
    EXPECT_FALSE(q.shuffle);
    EXPECT_FALSE(q.flags.given("epochs"));
    TemporaryFolder folder;  // the record is a configuration file as well
    const std::string path = folder.file("run.json");
    put(path, p.flags.to_json());
    Program r;
    r.parse({"--config", path.c_str()});
    EXPECT_EQ(r.flags.to_json(), p.flags.to_json());
    EXPECT_THAT(message_of<UsageError>([&] { q.flags.fill_from_json(R"({"x": 1})", "old.h5"); }),
                HasSubstr("old.h5: unknown flag"));
}

TEST(Flags, HelpTeaches) {
    for (const char* argument : {"--help", "-help", "-h"}) {
        Program p;
        try {
            p.parse({argument, "--epochs=0"});
            FAIL() << "no help";
        } catch (const HelpRequested& help) {
            EXPECT_EQ(std::string(help.what()), p.flags.help());
        }
    }
    const std::string help = Program().flags.help();
    for (const char* part : {"train: Trains a model.", "Usage: train [flags] [NAME]...",
                             "Training:", "Input and output:", "--epochs INT (=100)", "passes over the training set",
                             "at least 1; at most 1000", "at least 0; below 1", "  --no-cache (=false)", "--[no]shuffle (=true)", "--Filters INT,... (=16,16,24)",
                             "one of digits, svhn, mnist", "also --outdir", "also -n", "--lr NUMBER (=0.003)",
                             "--flagfile FILE", "--config FILE", "train --dataset svhn --epochs 3\n      three epochs"})
        EXPECT_THAT(help, HasSubstr(part));
    EXPECT_LT(help.find("Training:"), help.find("Input and output:"));
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) {
        EXPECT_LE(line.size(), 120u) << line;
        EXPECT_FALSE(line.ends_with(' ')) << line;
    }
}

TEST(Flags, ProgrammingErrorsAreErrors) {
    Program p;
    EXPECT_THAT(message_of([&] { p.flags.add("epochs", p.epochs, ""); }), HasSubstr("'epochs' is taken"));
    EXPECT_THAT(message_of([&] { p.flags.add("help", p.prune, ""); }), HasSubstr("'help' is taken"));
    EXPECT_THAT(message_of([&] { p.flags.alias("lr", "epochs"); }), HasSubstr("'lr' is taken"));
    EXPECT_THAT(message_of([&] { p.flags.given("nothing"); }), HasSubstr("no flag is called 'nothing'"));
}

TEST(FlagValues, TextReadsBack) {
    std::vector<std::string> words;
    const FlagTarget target(&words);
    for (const std::vector<std::string>& list :
         {std::vector<std::string>{}, {""}, {"a"}, {"a", ""}, {"", ""}, {"a,b", "\"q\"", "plain"}}) {
        const std::string text = to_text(FlagValue(list));
        EXPECT_EQ(std::get<std::vector<std::string>>(value_from_text(target, text)), list) << text;
    }
    EXPECT_EQ(to_text(FlagValue(0.1)), "0.1");
    EXPECT_EQ(closest("epcohs", {"epochs", "folds"}), "epochs");
    EXPECT_EQ(closest("x", {}), "");
    EXPECT_EQ(in_quotes("a\nb\x7f"), "'a\\x0ab\\x7f'");
}

}  // namespace
}  // namespace bitloom
