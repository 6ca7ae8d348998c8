// Errors in the kernel's words.
#include "fuse/errno_map.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <new>
#include <stdexcept>

namespace {

core::ErrorCode of_the_system(int error_number) { return {error_number, boost::system::system_category()}; }

TEST(ErrnoMap, EveryErrorOfOursHasAWord) {
  EXPECT_EQ(fuse::to_errno(make_error_code(core::Errc::corrupt_image)), EIO);
  EXPECT_EQ(fuse::to_errno(make_error_code(core::Errc::unsupported_feature)), EOPNOTSUPP);
  EXPECT_EQ(fuse::to_errno(make_error_code(core::Errc::image_locked)), EBUSY);
  EXPECT_EQ(fuse::to_errno(make_error_code(core::Errc::device_failed)), EIO);
  EXPECT_EQ(fuse::to_errno(make_error_code(core::Errc::bad_argument)), EINVAL);
  EXPECT_EQ(fuse::to_errno(make_error_code(core::Errc::read_only)), EROFS);
  EXPECT_EQ(fuse::to_errno(make_error_code(core::Errc::image_too_small)), EFBIG);
}

TEST(ErrnoMap, TheSystemsErrorsPassUnlessTheySpeakOfOurOwnCalls) {
  EXPECT_EQ(fuse::to_errno(of_the_system(ENOSPC)), ENOSPC);
  EXPECT_EQ(fuse::to_errno(of_the_system(EDQUOT)), EDQUOT);
  EXPECT_EQ(fuse::to_errno(of_the_system(EINTR)), EIO);
  EXPECT_EQ(fuse::to_errno(of_the_system(EAGAIN)), EIO);
  EXPECT_EQ(fuse::to_errno(of_the_system(EBADF)), EIO);
}

TEST(ErrnoMap, NeverAnswersSuccess) {
  EXPECT_EQ(fuse::to_errno(core::ErrorCode()), EIO);
  EXPECT_EQ(fuse::to_errno(core::ErrorCode(0, core::error_category())), EIO);
  EXPECT_EQ(fuse::to_errno(core::ErrorCode(99, core::error_category())), EIO);
  EXPECT_EQ(fuse::to_errno(of_the_system(-5)), EIO);
}

TEST(ErrnoMap, ExceptionsAreTold) {
  EXPECT_EQ(fuse::to_errno(core::Error(core::Errc::read_only, "said")), EROFS);
  EXPECT_EQ(fuse::to_errno(std::bad_alloc()), ENOMEM);
  EXPECT_EQ(fuse::to_errno(std::runtime_error("something else")), EIO);
}

}  // namespace
