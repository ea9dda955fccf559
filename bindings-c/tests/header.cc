// The header as C++17: it compiles without a warning, links, and the initializer fits.
#include <process_hub.h>

#include <cstring>

int main() {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    const bool is_ours = std::strcmp(ph_version_string(), PH_VERSION) == 0 && ph_abi_version() == PH_ABI_VERSION;
    return is_ours && callbacks.struct_size == sizeof callbacks ? 0 : 1;
}
