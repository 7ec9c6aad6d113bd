// From floating point to bit planes (bsq.md, 2.2).

#include <iostream>

#include "apps/bsq/run.h"
#include "apps/common/text.h"

namespace bitloom::bsq {

Result run_conversion(const Settings& settings) {
    Session session("bsq_convert", settings);
    BitNetwork& bits = session.bits();
    const NetworkFile file = session.load(settings.model_file);
    require(file.representation == Representation::floating, settings.model_file,
            ": is in bits already; bsq_convert starts from floating-point weights");
    if (!settings.dict.empty()) {
        const NetworkFile scheme = read_header(settings.dict);
        require(!scheme.table.empty(), settings.dict, ": has no precision table (Nbit_dict)");
        try {
            bits.set_precision(scheme.table);
        } catch (const Error& error) {
            fail(settings.dict, ": ", error.what());
        }
    }
    session.begin();
    session.print_metrics(session.print_test());
    bits.to_bits(static_cast<int>(settings.bits));
    session.print_statistics();
    for (const auto& [name, parameter] : session.model().named_parameters())
        if (parameter->trainable)
            std::cout << name << " " << parameter->value.shape() << " " << name_of(parameter->value.dtype()) << "\n";
    bits.requantize(10, 8);  // without effect here: the planes are exact
    session.print_statistics();
    const ClassificationMetrics metrics = session.print_test();
    session.print_metrics(metrics);
    const double accuracy = 100 * metrics.accuracy();
    session.print_compression("Compression rate");
    for (const char* name : {"checkpoint", "model_best"}) session.write(name, 1, accuracy, accuracy);
    const Result result = session.result(metrics, accuracy, 0);
    session.report("bitloom: conversion to bit planes", result);
    return result;
}

}  // namespace bitloom::bsq
