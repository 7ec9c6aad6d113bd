#include "engine/graph.h"

#include <algorithm>
#include <iomanip>

namespace bitloom {

namespace {
class Tracer final : public CallObserver {
   public:
    explicit Tracer(std::vector<GraphCall>& calls) : calls_(calls) {}
    void after_call(Module& module, std::span<const Var> inputs, Var& output) override {
        GraphCall call;
        call.index = static_cast<int>(calls_.size());
        call.module = &module;
        call.path = module.path();
        call.type = module.type();
        for (const Var& v : inputs) {
            call.inputs.push_back(v.producer);
            call.input_shapes.push_back(v.shape());
        }
        call.output_shape = output.shape();
        output.producer = call.index;
        calls_.push_back(std::move(call));
    }

   private:
    std::vector<GraphCall>& calls_;
};
}  // namespace

Graph Graph::trace(Module& network, const Shape& input_shape, DType dtype, Device device) {
    Graph graph;
    Tracer tracer(graph.calls_);
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    context.observer = &tracer;
    network(context, tape.input(Tensor::zeros(input_shape, dtype, device)));
    return graph;
}

const GraphCall& Graph::at(std::string_view path) const {
    const auto found = std::find_if(calls_.begin(), calls_.end(), [&](const GraphCall& c) { return c.path == path; });
    require(found != calls_.end(), "graph: no call of '", path, "'");
    return *found;
}

std::vector<int> Graph::consumers(int index) const {
    std::vector<int> found;
    for (const GraphCall& call : calls_)
        if (std::find(call.inputs.begin(), call.inputs.end(), index) != call.inputs.end()) found.push_back(call.index);
    return found;
}

std::string Graph::to_string() const {
    std::ostringstream out;
    for (const GraphCall& call : calls_) {
        out << std::setw(4) << call.index << "  " << std::left << std::setw(28) << call.path << std::setw(16) << call.type
            << std::right << " <-";
        for (std::size_t i = 0; i < call.inputs.size(); ++i) out << ' ' << call.inputs[i] << call.input_shapes[i];
        out << " -> " << call.output_shape;
        std::int64_t parameters = 0;
        for (const auto& [path, parameter] : call.module->named_parameters()) parameters += parameter->value.numel();
        if (parameters) out << "  " << parameters << " parameters";
        out << '\n';
    }
    return out.str();
}

}  // namespace bitloom
