#include "engine/step_capture.h"

namespace bitloom {

namespace {
thread_local int captures = 0;
}

bool step_is_being_captured() { return captures > 0; }
CaptureScope::CaptureScope() { ++captures; }
CaptureScope::~CaptureScope() { --captures; }

}  // namespace bitloom
