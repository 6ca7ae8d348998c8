# What is installed, and where: the one list of it. `cmake --install` of any build does it, for any prefix.
# Two components: `program`, and `development`, the engine as a library for other programs (find_package(qcowfs)).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME program)

set(QCOWFS_PACKAGING ${CMAKE_CURRENT_LIST_DIR})

install(TARGETS qcowfs RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${QCOWFS_PACKAGING}/man/qcowfs.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${QCOWFS_PACKAGING}/man/mount.qcowfs.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${QCOWFS_PACKAGING}/systemd/example.conf DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)

install(FILES ${QCOWFS_PACKAGING}/completions/qcowfs.bash RENAME qcowfs
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${QCOWFS_PACKAGING}/completions/qcowfs.zsh RENAME _qcowfs
  DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
install(FILES ${QCOWFS_PACKAGING}/completions/qcowfs.fish
  DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

# mount(8) looks for its helpers in /sbin alone: with another prefix than /usr, link to this one from there.
install(CODE "
  set(SBIN \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}\")
  file(MAKE_DIRECTORY \"\${SBIN}\")
  message(STATUS \"Installing: \${SBIN}/mount.qcowfs\")
  file(CREATE_LINK ../${CMAKE_INSTALL_BINDIR}/qcowfs \"\${SBIN}/mount.qcowfs\" SYMBOLIC)" COMPONENT program)

# The unit names the program by its path, which depends on the prefix.
install(CODE "
  set(BINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
  configure_file(\"${QCOWFS_PACKAGING}/systemd/qcowfs@.service.in\" \"${CMAKE_BINARY_DIR}/qcowfs@.service\" @ONLY)"
  COMPONENT program)
install(FILES ${CMAKE_BINARY_DIR}/qcowfs@.service DESTINATION lib/systemd/system)

# The front doors and what they include. The rooms behind them stay private.
set(QCOWFS_HEADERS ${CMAKE_INSTALL_INCLUDEDIR}/qcowfs)
set(QCOWFS_CMAKE ${CMAKE_INSTALL_LIBDIR}/cmake/qcowfs)
file(GLOB FRONT_DOORS CONFIGURE_DEPENDS qcow2/*.h)
list(FILTER FRONT_DOORS EXCLUDE REGEX "/disk\\.h$")
install(DIRECTORY core DESTINATION ${QCOWFS_HEADERS} COMPONENT development FILES_MATCHING PATTERN "*.h")
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
write_basic_package_version_file(${CMAKE_BINARY_DIR}/qcowfs-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${QCOWFS_PACKAGING}/qcowfs-config.cmake ${CMAKE_BINARY_DIR}/qcowfs-config-version.cmake
  DESTINATION ${QCOWFS_CMAKE} COMPONENT development)
