# What is installed, and where: the one list of it. `cmake --install` of any build does it, for any prefix.
# This is the component `program`; install_library.cmake has the component `development`.
include(GNUInstallDirs)
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

# mount(8) looks for its helpers in /sbin alone: with another prefix than /usr, link to these from there.
install(PROGRAMS ${QCOWFS_PACKAGING}/umount.fuse.qcowfs DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(CODE "
  set(PREFIX \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}\")
  message(STATUS \"Installing: \${PREFIX}/${CMAKE_INSTALL_SBINDIR}/mount.qcowfs\")
  file(CREATE_LINK ../${CMAKE_INSTALL_BINDIR}/qcowfs
    \"\${PREFIX}/${CMAKE_INSTALL_SBINDIR}/mount.qcowfs\" SYMBOLIC)
  file(CREATE_LINK mount.qcowfs.8 \"\${PREFIX}/${CMAKE_INSTALL_MANDIR}/man8/umount.fuse.qcowfs.8\" SYMBOLIC)"
  COMPONENT program)

# The unit names the program by its path, which depends on the prefix.
install(CODE "
  set(BINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
  configure_file(\"${QCOWFS_PACKAGING}/systemd/qcowfs@.service.in\" \"${CMAKE_BINARY_DIR}/qcowfs@.service\" @ONLY)"
  COMPONENT program)
install(FILES ${CMAKE_BINARY_DIR}/qcowfs@.service DESTINATION lib/systemd/system)
