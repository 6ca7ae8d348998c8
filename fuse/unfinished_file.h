// A file that either comes into being whole or leaves nothing behind, also when the program is interrupted.
#pragma once

#include <string>

namespace fuse {

/// Reserves a name beside `path` for the file while it is being made. Neither the destructor nor SIGINT, SIGTERM,
/// SIGHUP or SIGQUIT leave that behind; the signal then ends the program as it would have. One at a time in the
/// program. Errors     Throws core::Error whose sentence names `path`.
class UnfinishedFile {
 public:
  enum class Existing {
    refused,  ///< a `path` that exists is an error
    kept,     ///< and the file that was made goes away
  };
  explicit UnfinishedFile(std::string path, Existing existing = Existing::refused);
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  ~UnfinishedFile();

  /// Where the file is to be made.
  const std::string& temporary_path() const { return temporary_; }
  /// Makes it, empty.
  void create() const;
  /// Makes what was written to it durable, and then gives it its name, durably too. Takes the name from nobody: false
  /// where a file that has it is kept.
  bool publish();

 private:
  void sync() const;
  void sync_folder() const;

  std::string path_;
  Existing existing_;
  std::string temporary_;
};

}  // namespace fuse
