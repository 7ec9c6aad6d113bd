#include "engine/data/device_feed.h"

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

namespace bitloom {

namespace {

std::size_t bytes_of(const Dataset& images) {
    return static_cast<std::size_t>(images.size()) * static_cast<std::size_t>(images.image_shape().numel());
}

/// The data sets that hold the images of this one (several, where it joins some).
std::set<const Dataset*> holders_of(const Dataset& dataset) {
    std::set<const Dataset*> holders;
    for (std::int64_t i = 0; i < dataset.size(); ++i) holders.insert(dataset.locate(i).first);
    return holders;
}

struct Registry {
    std::mutex mutex;
    // A data set stays alive as long as a loader reads it, so its address names it as long as the tensor is held.
    std::map<std::pair<const Dataset*, Device>, std::weak_ptr<const Tensor>> resident;
};
Registry& registry() {
    static Registry* instance = new Registry;
    return *instance;
}

Tensor images_of(const Dataset& holder) {
    const Shape image = holder.image_shape();
    const Shape shape{holder.size(), image[0], image[1], image[2]};
    if (const auto* memory = dynamic_cast<const MemoryDataset*>(&holder)) return memory->images();
    Tensor images = Tensor::empty(shape, DType::u8);
    std::uint8_t* out = images.write<std::uint8_t>();
    for (std::int64_t i = 0; i < holder.size(); ++i) holder.read(i, out + i * image.numel());
    return images;
}

std::shared_ptr<const Tensor> bring(const Dataset& holder, Device device, const TrainingKernels& kernels) {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    std::weak_ptr<const Tensor>& known = r.resident[{&holder, device}];
    if (auto there = known.lock()) return there;
    auto images = std::make_shared<const Tensor>(images_of(holder).to(device));
    kernels.synchronize(device);  // other threads read it on streams of their own
    known = images;
    return images;
}

bool is_there(const Dataset* holder, Device device) {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    const auto found = r.resident.find({holder, device});
    return found != r.resident.end() && !found->second.expired();
}

/// A tensor on the device with the bytes of host values.
template <class T>
Tensor bytes_on(Device device, const std::vector<T>& values) {
    const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(T));
    Tensor target = Tensor::empty({bytes}, DType::u8, device);
    // Reading only: the wrapped memory is the source of a copy.
    target.copy_from(Tensor::wrap({bytes}, DType::u8, const_cast<T*>(values.data())));
    return target;
}

}  // namespace

std::string DeviceFeed::obstacle(const Dataset& dataset, const LoaderOptions& options) {
    const Device device = options.device;
    const TrainingKernels* kernels = training_kernels(device);
    if (!kernels || !kernels->gather_images) return cat("device ", device, " makes no batches");
    if (options.augmentation.size() > max_augment_steps)
        return cat("the device takes at most ", max_augment_steps, " augmentations");
    for (const auto& step : options.augmentation)
        if (!step->device_step()) return cat("the device has no augmentation '", step->name(), "'");
    if (!options.augmentation.empty() && dataset.image_shape().numel() > kernels->largest_image(device))
        return cat("images of shape ", dataset.image_shape(), " are too large for the device to augment");
    std::size_t needed = 0;
    for (const Dataset* holder : holders_of(dataset))
        if (!is_there(holder, device)) needed += bytes_of(*holder);
    // Half is left to the network.
    if (const std::size_t free = kernels->free_memory(device); needed > free / 2)
        return cat("the images take ", needed >> 20, " MB of the device's ", free >> 20, " free MB");
    return {};
}

DeviceFeed::DeviceFeed(const Dataset& dataset, const LoaderOptions& options, const Normalization& normalization)
    : kernels_(*training_kernels(options.device)), device_(options.device) {
    const Shape image = dataset.image_shape();
    std::map<const Dataset*, const std::uint8_t*> begin;
    for (const Dataset* holder : holders_of(dataset)) {
        resident_.push_back(bring(*holder, device_, kernels_));
        begin[holder] = resident_.back()->read<std::uint8_t>();
    }
    std::vector<const std::uint8_t*> addresses(static_cast<std::size_t>(dataset.size()));
    std::vector<std::int32_t> labels(addresses.size());
    for (std::int64_t i = 0; i < dataset.size(); ++i) {
        const auto [holder, position] = dataset.locate(i);
        addresses[static_cast<std::size_t>(i)] = begin.at(holder) + position * image.numel();
        labels[static_cast<std::size_t>(i)] = dataset.label(i);
    }
    addresses_ = bytes_on(device_, addresses);
    labels_ = bytes_on(device_, labels);
    order_ = Tensor::empty({dataset.size() * static_cast<std::int64_t>(sizeof(std::int64_t))}, DType::u8, device_);
    if (!normalization.mean.empty()) mean_ = bytes_on(device_, normalization.mean);
    if (!normalization.std.empty()) deviation_ = bytes_on(device_, normalization.std);
    for (const auto& step : options.augmentation) steps_.push_back(step->device_step().value());

    plan_.height = image[0];
    plan_.width = image[1];
    plan_.channels = image[2];
    plan_.images = static_cast<const std::uint8_t* const*>(addresses_.raw());
    plan_.labels = static_cast<const std::int32_t*>(labels_.raw());
    plan_.augment_key = stream_key(options.seed, "augment");
    plan_.steps = steps_;
    plan_.divisor = normalization.divisor;
    plan_.mean = mean_.defined() ? static_cast<const float*>(mean_.raw()) : nullptr;
    plan_.deviation = deviation_.defined() ? static_cast<const float*>(deviation_.raw()) : nullptr;
}

void DeviceFeed::start(std::int64_t epoch, const std::vector<std::int64_t>& order) {
    const auto bytes = static_cast<std::int64_t>(order.size() * sizeof(std::int64_t));
    order_.copy_from(Tensor::wrap({bytes}, DType::u8, const_cast<std::int64_t*>(order.data())));
    plan_.augment_counter = augment_counter(epoch, 0);
}

void DeviceFeed::fill(std::int64_t first, Tensor& images, Tensor& labels) const {
    ImageGather plan = plan_;
    plan.order = static_cast<const std::int64_t*>(order_.raw()) + first;
    kernels_.gather_images(plan, images, labels);
}

}  // namespace bitloom
