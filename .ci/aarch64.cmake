# Cross build for AArch64 on Debian; .ci/run uses it.
#     cmake -B BUILD --toolchain .ci/aarch64.cmake -DAARCH64_LIBS=FOLDER -DWEFT_JEMALLOC=OFF
# FOLDER holds Debian's arm64 packages of check, libsubunit and libatomic-ops, unpacked.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_ASM_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

set(AARCH64_LIBS "" CACHE PATH "Debian's arm64 packages, unpacked")
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES AARCH64_LIBS)
set(ENV{PKG_CONFIG_LIBDIR} "${AARCH64_LIBS}/usr/lib/aarch64-linux-gnu/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${AARCH64_LIBS}")

# Libraries and headers of the target, programs of this machine.
set(CMAKE_FIND_ROOT_PATH "${AARCH64_LIBS}" /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
