#include "apps/bsq/program.h"

#include <iostream>

#include "apps/common/run_folder.h"
#include "apps/common/text.h"
#include "engine/train/signals.h"

namespace bitloom::bsq {

int run_as_program(const std::string& program, Flags& flags, Settings& settings, int argc, const char* const* argv,
                   const std::function<Result(const Settings&)>& run) {
    parse(flags, settings, program, argc, argv);
    set_threads(static_cast<int>(settings.common.threads));
    settings.common.threads = thread_count();  // recorded: a resumed run needs as many to compute the same bits
    if (!settings.evaluate) {
        make_folder(settings.common.out_dir);
        claim_folder(settings.common.out_dir);
        const Device device = open_device(settings.common.device);
        settings.configuration = flags.to_json();
        settings.record = [&, device] {
            write_run_record(settings.common.out_dir, program, flags, argc, argv, device, thread_count());
        };
    }
    const Result result = run(settings);
    if (result.interrupted) return settings.max_steps > 0 ? 0 : interrupted_exit_status;
    std::cout << "top1: " << fixed(100 * result.accuracy, 2)
              << "\nbits_per_parameter: " << fixed(result.sizes.bits_per_parameter(), 4)
              << "\ncompression: " << fixed(result.sizes.compression(), 2) << "\n";
    if (!settings.evaluate)
        std::cout << report_line(settings.common.out_dir + "/report.html");
    return 0;
}

}  // namespace bitloom::bsq
