// The small languages of flags: augmentations, schedules, normalisations, lists, and histories in CSV. The first byte
// chooses.
#include "apps/common/history.h"
#include "engine/data/augment.h"
#include "engine/data/normalize.h"
#include "engine/error.h"
#include "engine/io/flag_values.h"
#include "engine/train/schedule.h"
#include "fuzz/harness.h"

namespace {

using namespace bitloom;

const MemoryDataset& images() {
    static const MemoryDataset set(Tensor::full({3, 5, 4, 3}, 7, DType::u8), {0, 1, 2}, 3);
    return set;
}

void augment(const std::string& text) {
    const AugmentationPipeline pipeline = parse_augmentations(text);
    if (pipeline.size() > 8) return;
    const Shape shape = images().image_shape();
    std::vector<float> image(static_cast<std::size_t>(shape.numel()), 1.0f), scratch = image;
    Rng rng(1, "fuzz");
    for (const auto& step : pipeline) step->apply(image.data(), shape, scratch.data(), rng);
}

void schedule(const std::string& text) {
    const auto plan = parse_schedule(text, 0.1, 100);
    double rate = 0.1;
    for (std::int64_t epoch = 0; epoch < 5; ++epoch) rate = plan->after_epoch(plan->before_epoch(epoch, rate), 0.5);
    plan->load_state(plan->state());
}

void normalize(const std::string& text) {
    const Normalization norm = normalization_by_name(text, images()).per_pixel(images().image_shape());
    std::vector<std::uint8_t> image(60, 3);
    std::vector<float> out(60);
    norm.apply(image.data(), images().image_shape(), out.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const fuzz::InputFile file(data + 1, size - 1);
    fuzz::check_reader(size, [&] {
        switch (data[0] % 5) {
            case 0:
                return augment(text);
            case 1:
                return schedule(text);
            case 2:
                return normalize(text);
            case 3:
                return void(split_list(text));
            default:
                return void(read_history(file.path(), "fuzz"));
        }
    });
    return 0;
}
