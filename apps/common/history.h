#pragma once
// Reads back the history that CsvHistory wrote.

#include <string>

#include "apps/common/learning_curves.h"

namespace bitloom {

/// The columns loss, accuracy, val_loss and val_accuracy of a history file, as the curve `name`. A column that the file
/// does not have, or whose values are empty, gives an empty series. Throws Error naming file and line for anything
/// else.
LearningCurve read_history(const std::string& path, const std::string& name);

}  // namespace bitloom
