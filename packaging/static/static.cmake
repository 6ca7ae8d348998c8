# A program that needs no library of the system, not even libc, for other distributions: see packaging/build-tarball.
# Instead of find_package(spdlog) and pkg_check_modules(SYSTEMD ..), of which Debian has no static libraries.
set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
string(APPEND CMAKE_EXE_LINKER_FLAGS " -static")

find_package(fmt REQUIRED)
add_library(spdlog::spdlog INTERFACE IMPORTED)  # its headers alone, and fmt's
target_compile_definitions(spdlog::spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(spdlog::spdlog INTERFACE fmt::fmt-header-only)

add_library(qcowfs_sd_notify STATIC ${CMAKE_CURRENT_LIST_DIR}/sd_notify.cpp)
target_include_directories(qcowfs_sd_notify PUBLIC ${CMAKE_CURRENT_LIST_DIR} PRIVATE ${CMAKE_SOURCE_DIR})
add_library(PkgConfig::SYSTEMD ALIAS qcowfs_sd_notify)
