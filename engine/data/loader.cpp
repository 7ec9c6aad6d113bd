#include "engine/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>

#include "engine/data/device_feed.h"
#include "engine/data/order.h"

namespace bitloom {

namespace {

/// Working memory of one thread. Sized when the loader is made: a worker that gets its first batch late, on a busy
/// machine, allocates nothing in the steady state either.
struct Scratch {
    explicit Scratch(std::int64_t image_size)
        : pixels(static_cast<std::size_t>(image_size)), image(pixels.size()), spare(pixels.size()) {}
    std::vector<std::uint8_t> pixels;
    std::vector<float> image, spare;
};

/// The tensors of a batch that was consumed come back to the ring; what nobody else holds is filled again, so that the
/// number of blocks does not depend on how far the workers are ahead.
void reuse_or_allocate(Tensor& tensor, const Shape& shape, DType dtype, Device device) {
    if (tensor.unique() && tensor.shape() == shape && tensor.dtype() == dtype && tensor.device() == device) return;
    tensor = Tensor();
    tensor = Tensor::empty(shape, dtype, device);
}

/// One place of the ring; batch b lies in slot b % slots.
struct Slot {
    Batch batch;
    std::exception_ptr error;
    bool ready = false;
};

}  // namespace

struct Loader::State {
    std::shared_ptr<const Dataset> dataset;
    LoaderOptions options;
    Normalization normalization;  // the options' one, laid out by pixel
    Shape image_shape;
    std::int64_t count = 0, batches = 0;
    std::uint64_t augment_key = 0;
    std::unique_ptr<DeviceFeed> feed;  // null where the host makes the batches
    bool started = false;
    std::int64_t epoch = 0;
    std::vector<std::int64_t> order;  // written by start() only, while no worker is busy

    std::mutex mutex;
    std::condition_variable work, done;  // workers wait for work, the caller for what is done
    std::vector<Slot> slots;
    std::int64_t claimed = 0;   // next batch a worker takes
    std::int64_t consumed = 0;  // next batch next() returns
    int busy = 0;
    bool paused = true, stopping = false;
    std::vector<Scratch> scratch;  // one for each worker, or the caller's
    std::vector<std::thread> workers;

    void assemble(std::int64_t number, Batch& batch, Scratch& scratch) const;
    void begin_batch(std::int64_t number, Batch& batch, Device device) const;
    void fill_image(std::int64_t index, float* out, Scratch& scratch) const;
    void run_worker(Scratch& scratch);
    void pause();
    void stop();
};

void Loader::State::fill_image(std::int64_t index, float* out, Scratch& scratch) const {
    dataset->read(index, scratch.pixels.data());
    if (options.augmentation.empty()) {
        normalization.apply(scratch.pixels.data(), image_shape, out);
        return;
    }
    Rng rng(PhiloxStream{augment_key, augment_counter(epoch, index)});
    std::copy(scratch.pixels.begin(), scratch.pixels.end(), out);
    for (const auto& step : options.augmentation)
        if (!step->after_normalization()) step->apply(out, image_shape, scratch.spare.data(), rng);
    normalization.apply(out, image_shape, out);
    for (const auto& step : options.augmentation)
        if (step->after_normalization()) step->apply(out, image_shape, scratch.spare.data(), rng);
}

/// Room on `device` for batch `number`, and which images it holds.
void Loader::State::begin_batch(std::int64_t number, Batch& batch, Device device) const {
    const std::int64_t first = number * options.batch_size, last = std::min(count, first + options.batch_size);
    batch.indices.assign(order.begin() + first, order.begin() + last);
    reuse_or_allocate(batch.images, {last - first, image_shape[0], image_shape[1], image_shape[2]}, options.dtype,
                      device);
    reuse_or_allocate(batch.labels, {last - first}, DType::i32, device);
}

void Loader::State::assemble(std::int64_t number, Batch& batch, Scratch& scratch) const {
    if (feed) {
        begin_batch(number, batch, options.device);
        feed->fill(number * options.batch_size, batch.images, batch.labels);
        return;
    }
    begin_batch(number, batch, options.device.is_host() ? options.device : cpu_device);
    const std::int64_t size = batch.size(), pixels = image_shape.numel();
    std::int32_t* labels = batch.labels.write<std::int32_t>();
    for (std::int64_t i = 0; i < size; ++i) labels[i] = dataset->label(batch.indices[static_cast<std::size_t>(i)]);

    const auto each_image = [&](auto&& store) {
        for (std::int64_t i = 0; i < size; ++i) store(batch.indices[static_cast<std::size_t>(i)], i * pixels);
    };
    if (options.dtype == DType::f32) {
        float* out = batch.images.write<float>();
        each_image([&](std::int64_t index, std::int64_t offset) { fill_image(index, out + offset, scratch); });
        return;
    }
    const auto convert = [&](auto* out) {
        using T = std::remove_pointer_t<decltype(out)>;
        each_image([&](std::int64_t index, std::int64_t offset) {
            fill_image(index, scratch.image.data(), scratch);
            for (std::int64_t p = 0; p < pixels; ++p) out[offset + p] = T(scratch.image[static_cast<std::size_t>(p)]);
        });
    };
    if (options.dtype == DType::f64)
        convert(batch.images.write<double>());
    else
        convert(batch.images.write<bf16>());
}

void Loader::State::run_worker(Scratch& scratch) {
    std::unique_lock lock(mutex);
    for (;;) {
        work.wait(lock, [&] {
            return stopping ||
                   (!paused && claimed < batches && claimed < consumed + static_cast<std::int64_t>(slots.size()));
        });
        if (stopping) return;
        const std::int64_t number = claimed++;
        Slot& slot = slots[static_cast<std::size_t>(number) % slots.size()];
        ++busy;
        lock.unlock();
        std::exception_ptr error;
        try {
            assemble(number, slot.batch, scratch);
        } catch (...) {
            error = std::current_exception();
        }
        lock.lock();
        slot.error = error;
        slot.ready = true;
        --busy;
        done.notify_all();
    }
}

void Loader::State::pause() {
    std::unique_lock lock(mutex);
    paused = true;
    done.wait(lock, [&] { return busy == 0; });
    for (Slot& slot : slots) {
        slot.ready = false;
        slot.error = nullptr;
    }
}

void Loader::State::stop() {
    {
        std::lock_guard lock(mutex);
        stopping = true;
    }
    work.notify_all();
    for (std::thread& worker : workers) worker.join();
}

Loader::Loader(std::shared_ptr<const Dataset> dataset, LoaderOptions options) : state_(std::make_unique<State>()) {
    require(dataset != nullptr, "loader: no data set given");
    require(dataset->size() > 0, "loader: the data set is empty");
    require(options.batch_size > 0, "loader: batch size ", options.batch_size, " is not positive");
    require(options.workers >= 0 && options.workers <= 1024, "loader: ", options.workers, " workers");
    require(options.prefetch >= 1 || options.workers == 0, "loader: prefetch ", options.prefetch, " is not positive");
    require(options.shuffle != Shuffle::reservoir || options.reservoir > 0, "loader: a reservoir of ",
            options.reservoir, " elements");
    require(is_floating(options.dtype), "loader: images are f32, f64 or bf16, not ", name_of(options.dtype));
    State& s = *state_;
    s.dataset = std::move(dataset);
    s.options = std::move(options);
    s.image_shape = s.dataset->image_shape();
    s.normalization = s.options.normalization.per_pixel(s.image_shape);
    s.count = s.dataset->size();
    const std::int64_t size = s.options.batch_size;
    s.batches = s.options.drop_last ? s.count / size : s.count / size + (s.count % size != 0);
    s.augment_key = stream_key(s.options.seed, "augment");
    const DataOnDevice wish = s.options.data_on_device;
    if (wish == DataOnDevice::on || (wish == DataOnDevice::automatic && !s.options.device.is_host())) {
        const std::string obstacle = DeviceFeed::obstacle(*s.dataset, s.options);
        require(obstacle.empty() || wish == DataOnDevice::automatic, "data on the device: ", obstacle);
        if (obstacle.empty()) s.feed = std::make_unique<DeviceFeed>(*s.dataset, s.options, s.normalization);
    }
    const int workers = s.feed ? 0 : s.options.workers;
    s.scratch.assign(static_cast<std::size_t>(std::max(1, workers)), Scratch(s.image_shape.numel()));
    if (workers == 0) return;
    s.slots.resize(static_cast<std::size_t>(s.options.prefetch));
    try {
        for (Scratch& scratch : s.scratch) s.workers.emplace_back([&s, &scratch] { s.run_worker(scratch); });
    } catch (const std::system_error& error) {
        s.stop();
        fail("loader: cannot start worker threads: ", error.what());
    }
}

Loader::~Loader() { state_->stop(); }

const Dataset& Loader::dataset() const { return *state_->dataset; }
const LoaderOptions& Loader::options() const { return state_->options; }
bool Loader::data_on_device() const { return state_->feed != nullptr; }
std::int64_t Loader::batches() const { return state_->batches; }

void Loader::start(std::int64_t epoch, std::int64_t first) {
    State& s = *state_;
    require(epoch >= 0, "loader: epoch ", epoch);
    require(first >= 0 && first <= s.batches, "loader: batch ", first, " of an epoch of ", s.batches);
    s.pause();
    // An order without shuffling is the same in every epoch, a shuffled one is drawn anew.
    if (!s.started || (s.options.shuffle != Shuffle::none && s.epoch != epoch)) {
        Rng rng(s.options.seed, "shuffle", static_cast<std::uint64_t>(epoch));
        fill_order(s.options.shuffle, s.count, s.options.reservoir, rng, s.order);
    }
    if (s.feed) s.feed->start(epoch, s.order);
    {
        std::lock_guard lock(s.mutex);
        s.epoch = epoch;
        s.started = true;
        s.claimed = s.consumed = first;
        s.paused = false;
    }
    s.work.notify_all();
}

bool Loader::next(Batch& batch) {
    State& s = *state_;
    require(s.started, "loader: next() before start()");
    if (s.consumed >= s.batches) return false;
    if (s.workers.empty()) {
        s.assemble(s.consumed, batch, s.scratch.front());
        ++s.consumed;
    } else {
        std::unique_lock lock(s.mutex);
        Slot& slot = s.slots[static_cast<std::size_t>(s.consumed) % s.slots.size()];
        s.done.wait(lock, [&] { return slot.ready; });
        if (slot.error) std::rethrow_exception(slot.error);
        std::swap(batch, slot.batch);  // the slot refills what the caller is done with
        slot.ready = false;
        ++s.consumed;
        lock.unlock();
        s.work.notify_one();
    }
    batch.images = batch.images.to(s.options.device);
    batch.labels = batch.labels.to(s.options.device);
    return true;
}

}  // namespace bitloom
