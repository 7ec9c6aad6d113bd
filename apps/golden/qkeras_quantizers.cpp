#include "apps/golden/families.h"

namespace bitloom::golden {

void add_qkeras_quantizers(Families&) {}

}  // namespace bitloom::golden
