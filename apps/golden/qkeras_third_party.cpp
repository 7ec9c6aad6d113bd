#include "apps/golden/families.h"

namespace bitloom::golden {

void add_qkeras_third_party(Families&) {}

}  // namespace bitloom::golden
