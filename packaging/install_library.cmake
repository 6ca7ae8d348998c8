# The engine as a library for other programs: find_package(qcowfs). The component `development`.
include(CMakePackageConfigHelpers)

# The front doors and what they include. The rooms behind them stay private.
set(QCOWFS_HEADERS ${CMAKE_INSTALL_INCLUDEDIR}/qcowfs)
set(QCOWFS_CMAKE ${CMAKE_INSTALL_LIBDIR}/cmake/qcowfs)
file(GLOB FRONT_DOORS CONFIGURE_DEPENDS qcow2/*.h)
list(FILTER FRONT_DOORS EXCLUDE REGEX "/disk\\.h$")
install(DIRECTORY core DESTINATION ${QCOWFS_HEADERS} COMPONENT development FILES_MATCHING PATTERN "*.h"
  PATTERN nbd EXCLUDE)
install(DIRECTORY qcow2/codec qcow2/format qcow2/offline DESTINATION ${QCOWFS_HEADERS}/qcow2 COMPONENT development
  FILES_MATCHING PATTERN "*.h")
install(FILES ${FRONT_DOORS} DESTINATION ${QCOWFS_HEADERS}/qcow2 COMPONENT development)

set_target_properties(qcowfs_core PROPERTIES EXPORT_NAME core)
set_target_properties(qcowfs_qcow2 PROPERTIES EXPORT_NAME qcow2)
target_compile_features(qcowfs_core PUBLIC cxx_std_20)
target_include_directories(qcowfs_core INTERFACE $<INSTALL_INTERFACE:${QCOWFS_HEADERS}>)
install(TARGETS qcowfs_core qcowfs_qcow2 EXPORT qcowfs
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(EXPORT qcowfs NAMESPACE qcowfs:: DESTINATION ${QCOWFS_CMAKE} COMPONENT development)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/qcowfs-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${QCOWFS_PACKAGING}/qcowfs-config.cmake ${CMAKE_BINARY_DIR}/qcowfs-config-version.cmake
  DESTINATION ${QCOWFS_CMAKE} COMPONENT development)
