#pragma once
// Whether the calling thread captures a training step (engine/train/device_step.h).

namespace bitloom {

/// True while a step is captured. What is allocated meanwhile is memory of the captured step, which its replays write for
/// as long as it lives; so nobody may then give it memory that is kept from pass to pass and may be given back, nor keep
/// what it allocates.
bool step_is_being_captured();

/// Says so while it lives.
class CaptureScope {
   public:
    CaptureScope();
    ~CaptureScope();
    CaptureScope(const CaptureScope&) = delete;
    CaptureScope& operator=(const CaptureScope&) = delete;
};

}  // namespace bitloom
