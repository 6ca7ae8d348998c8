// The command line: what people, fstab lines and scripts write, and what they get wrong.
#include "fuse/options.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <iterator>
#include <string>
#include <variant>
#include <vector>

namespace {

fuse::Command parse(std::initializer_list<const char*> words) {
  std::vector<const char*> arguments = {"qcowfs"};
  arguments.insert(arguments.end(), words);
  return fuse::parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

fuse::MountOptions mount(std::initializer_list<const char*> words) {
  return std::get<fuse::MountOptions>(parse(words));
}

fuse::MountOptions mount_with(const char* list) { return mount({"-o", list, "a.qcow2", "m"}); }

std::string complaint(std::initializer_list<const char*> words) {
  try {
    parse(words);
  } catch (const fuse::UsageError& error) {
    return error.what();
  }
  return "accepted";
}

std::string complaint_about(const char* list) { return complaint({"-o", list, "a.qcow2", "m"}); }

TEST(Options, TheMountHelperKnowsNoVerbs) {
  const char* const words[] = {"/sbin/mount.qcowfs", "check", "m", "-n", "-v", "-s", "-o", "rw,nofail", "-t", "qcowfs"};
  const auto options = std::get<fuse::MountOptions>(fuse::parse_command_line(std::size(words), words));
  EXPECT_EQ(options.image, "check");
  EXPECT_FALSE(options.foreground);
}

TEST(Options, TheMountHelperOnlyPretendsWhereItIsTold) {
  const char* const words[] = {"mount.fuse.qcowfs", "a.qcow2", "m", "-f", "-o", "ro"};
  EXPECT_EQ(std::get<fuse::Printout>(fuse::parse_command_line(std::size(words), words)).text, "");
  const char* const wrong[] = {"mount.qcowfs", "a.qcow2", "m", "-f", "-o", "nonsense"};
  EXPECT_THROW(fuse::parse_command_line(std::size(wrong), wrong), fuse::UsageError);
}

TEST(Options, WhatLiesBelow) {
  EXPECT_TRUE(mount({"a.qcow2", "m"}).named_files.allowed);
  const char* const words = "backing=off,backing_dir=/a,backing_dir=b,backing_format=raw";
  const auto convert = std::get<fuse::ConvertOptions>(parse({"convert", "-o", words, "a", "b"}));
  const auto compare = std::get<fuse::CompareOptions>(parse({"compare", "-o", words, "a", "b"}));
  for (const fuse::NamedFileOptions& options :
       {mount_with(words).named_files, convert.named_files, compare.named_files}) {
    EXPECT_FALSE(options.allowed);
    EXPECT_EQ(options.dirs, (std::vector<std::string>{"/a", "b"}));
    EXPECT_EQ(options.format, "raw");
  }
  EXPECT_EQ(complaint({"convert", "-o", "ro", "a", "b"}), "-o ro: only for a mount");
  EXPECT_EQ(complaint({"compare", "-o", "snapshot=x", "a", "b"}), "-o snapshot=x: only for a mount");
  EXPECT_EQ(std::get<fuse::ConvertOptions>(parse({"convert", "-o", "snapshot=x", "a", "b"})).snapshot, "x");
}

TEST(Options, PartitionsInsteadOfTheDisk) {
  EXPECT_FALSE(mount_with("ro").partitions.any());
  EXPECT_TRUE(mount_with("partitions").partitions.all);
  EXPECT_EQ(mount_with("partition=12").partitions.one, 12u);
  EXPECT_EQ(complaint_about("partition=0"), "-o partition=0: expected a number from 1 to 65536");
  EXPECT_EQ(complaint_about("partitions=2"), "-o partitions=2: partitions takes no value");
  EXPECT_EQ(complaint_about("partitions,partition=2"), "-o partitions: cannot go with partition=N");
  EXPECT_EQ(complaint_about("partition=2,writeback_cache"),
            "-o partition: cannot go with writeback_cache: the kernel would take writes behind their ends");
  EXPECT_TRUE(mount_with("partitions,writeback_cache,ro").partitions.all);
}

TEST(Options, ASnapshotIsReadOnly) {
  const fuse::MountOptions options = mount_with("snapshot=before");
  EXPECT_EQ(options.snapshot, "before");
  EXPECT_TRUE(options.read_only);
}

TEST(Options, MountIsTheVerbThatNeedNotBeSaid) {
  for (const fuse::MountOptions& options : {mount({"a.qcow2", "m"}), mount({"mount", "a.qcow2", "m"})}) {
    EXPECT_EQ(options.image, "a.qcow2");
    EXPECT_EQ(options.mountpoint, "m");
    EXPECT_FALSE(options.foreground);
    EXPECT_FALSE(options.read_only);
    EXPECT_EQ(options.direct, core::DirectIo::automatic);
    EXPECT_EQ(options.subtype, "qcowfs");
    EXPECT_FALSE(options.workers);
  }
}

TEST(Options, OptionsMayStandAnywhereAndListsMayRepeat) {
  const fuse::MountOptions options = mount({"a.qcow2", "-f", "m", "-o", "ro,level=3", "-onodev,workers=2"});
  EXPECT_TRUE(options.foreground);
  EXPECT_TRUE(options.read_only);
  EXPECT_EQ(options.level, 3);
  EXPECT_EQ(options.workers, 2u);
  EXPECT_EQ(options.mount_flags, std::vector<std::string>{"nodev"});
}

TEST(Options, AListTakesOneWordAndLeavesTheNextToTheImage) {
  const fuse::MountOptions options = mount({"-o", "ro", "a.qcow2", "m"});
  EXPECT_EQ(options.image, "a.qcow2");
  EXPECT_EQ(options.mountpoint, "m");
}

TEST(Options, DebugImpliesForeground) {
  EXPECT_TRUE(mount({"-d", "a.qcow2", "m"}).foreground);
  EXPECT_TRUE(mount_with("debug").foreground);
  EXPECT_TRUE(mount_with("debug").debug);
}

TEST(Options, ValuesArrive) {
  const fuse::MountOptions options = mount_with(
      "direct=off,cache_size=512m,commit_interval=30,log=/var/log/q,allow_other,uid=1000,gid=100,umask=077,"
      "fsname=disk,subtype=q");
  EXPECT_EQ(options.direct, core::DirectIo::off);
  EXPECT_EQ(options.cache_size, 512u << 20);
  EXPECT_EQ(options.commit_interval_seconds, 30u);
  EXPECT_EQ(options.log_file, "/var/log/q");
  EXPECT_TRUE(options.allow_other);
  EXPECT_EQ(options.uid, 1000u);
  EXPECT_EQ(options.gid, 100u);
  EXPECT_EQ(options.umask, 077u);
  EXPECT_EQ(options.fsname, "disk");
  EXPECT_EQ(options.subtype, "q");
}

TEST(Options, HowAMountBeginsAndEnds) {
  const fuse::MountOptions options = mount({"-P", "a.pid", "-o", "create=3g,timeout=60,notify_pipe=/p,ready_fd=7", "-o",
                                            "auto_unmount,nonempty", "a.qcow2", "m"});
  EXPECT_EQ(options.create_size, 3ull << 30);
  EXPECT_EQ(options.idle_seconds, 60u);
  EXPECT_EQ(options.notify_pipe, "/p");
  EXPECT_EQ(options.ready_descriptor, 7);
  EXPECT_EQ(options.pid_file, "a.pid");
  EXPECT_TRUE(options.over_non_empty);
  EXPECT_EQ(complaint_about("timeout=0"), "-o timeout=0: expected a number from 1 to 315360000");
  EXPECT_EQ(complaint_about("create=big"), "-o create=big: expected the size of the disk, like 512m or 10g");
  EXPECT_NE(complaint_about("create=1g,ro").find("read-only"), std::string::npos);
}

TEST(Options, AMistypedVerbIsRecognised) {
  EXPECT_EQ(mount({"chek", "a.qcow2"}).verb_meant, "check");
  EXPECT_EQ(mount({"disk.qcow2", "m"}).verb_meant, "");
  EXPECT_NE(complaint({"snapshoot", "list", "a.qcow2"}).find("did you mean qcowfs snapshot?"), std::string::npos);
}

TEST(Options, TheLastOfRoAndRwWins) {
  EXPECT_TRUE(mount_with("rw,ro").read_only);
  EXPECT_FALSE(mount_with("ro,rw").read_only);
}

TEST(Options, AnFstabLineIsUnderstood) {
  const fuse::MountOptions options = mount_with(
      "rw,defaults,nofail,noauto,auto,_netdev,user,users,user=joe,x-systemd.automount,x-gvfs-show,comment="
      "hello,"
      "nosuid,suid,dev,exec,atime,relatime,noatime");
  EXPECT_EQ(options.mount_flags, (std::vector<std::string>{"nosuid", "noatime"}));
}

TEST(Options, WhatMountGivesItsHelpersIsAccepted) {
  EXPECT_EQ(mount({"a.qcow2", "m", "-n", "-s", "-v", "-t", "fuse.qcowfs", "-o", "rw"}).mountpoint, "m");
}

TEST(Options, TheWindowIsNarrowUnlessItIsWide) {
  EXPECT_FALSE(mount({"a.qcow2", "m"}).wide_window);
  EXPECT_FALSE(mount({"a.qcow2", "m", "-o", "window=4k"}).wide_window);
  EXPECT_TRUE(mount({"a.qcow2", "m", "-o", "window=32k"}).wide_window);
}

TEST(Options, AnUnknownOptionIsNamed) {
  EXPECT_EQ(complaint_about("levle=3"), "-o levle=3: unknown option; did you mean level? (see qcowfs --help)");
  EXPECT_EQ(complaint_about("something"), "-o something: unknown option (see qcowfs --help)");
  EXPECT_NE(complaint({"--nonsense", "a.qcow2", "m"}).find("--nonsense"), std::string::npos);
}

TEST(Options, ABadValueIsNamedWithWhatWasExpected) {
  EXPECT_EQ(complaint_about("level=10"), "-o level=10: expected a number from 1 to 9");
  EXPECT_EQ(complaint_about("workers=0"), "-o workers=0: expected a number from 1 to 1024");
  EXPECT_EQ(complaint_about("workers=2x"), "-o workers=2x: expected a number from 1 to 1024");
  EXPECT_EQ(complaint_about("umask=8"), "-o umask=8: expected an octal number from 0 to 777");
  EXPECT_EQ(complaint_about("direct=maybe"), "-o direct=maybe: expected on, off or auto");
  EXPECT_EQ(complaint_about("cache_size=lots"),
            "-o cache_size=lots: expected a number of bytes, 1m at least, like 96m or 1g");
  EXPECT_EQ(complaint_about("backing=yes"), "-o backing=yes: expected on or off");
  EXPECT_EQ(complaint_about("backing_format=vmdk"), "-o backing_format=vmdk: expected raw or qcow2");
  EXPECT_EQ(complaint_about("backing_dir="), "-o backing_dir=: expected a name");
  EXPECT_EQ(complaint_about("window=64k"), "-o window=64k: expected 4k or 32k");
  EXPECT_EQ(complaint_about("window=wide"), "-o window=wide: expected 4k or 32k");
  EXPECT_EQ(complaint_about("log="), "-o log=: expected a name");
  EXPECT_EQ(complaint_about("level"), "-o level: needs a value: level=...");
  EXPECT_EQ(complaint_about("ro=1"), "-o ro=1: ro takes no value");
  EXPECT_EQ(complaint_about("allow_other,allow_root"), "-o allow_root: cannot be combined with allow_other");
}

TEST(Options, WhatIsMissingIsNamed) {
  EXPECT_NE(complaint({"a.qcow2"}).find("MOUNTPOINT"), std::string::npos);
  EXPECT_NE(complaint({"umount"}).find("MOUNTPOINT"), std::string::npos);
  EXPECT_NE(complaint({"create", "a.qcow2"}).find("SIZE"), std::string::npos);
  EXPECT_NE(complaint({"a.qcow2", "m", "one too many"}).find("one too many"), std::string::npos);
}

TEST(Options, ComplaintsAreOneLine) {
  for (const std::string& line : {complaint({}), complaint({"a"}), complaint({"--what"}), complaint_about("what")}) {
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  }
}

TEST(Options, HelpAndVersionComeBeforeComplaints) {
  EXPECT_NE(std::get<fuse::Printout>(parse({"-h"})).text.find("MOUNTPOINT"), std::string::npos);
  EXPECT_NE(std::get<fuse::Printout>(parse({"create", "--help"})).text.find("--cluster-size"), std::string::npos);
  EXPECT_TRUE(std::holds_alternative<fuse::ShowVersion>(parse({"-V"})));
  EXPECT_TRUE(std::holds_alternative<fuse::ShowVersion>(parse({"umount", "--version"})));
}

TEST(Options, TheOtherVerbs) {
  EXPECT_EQ(std::get<fuse::UmountOptions>(parse({"umount", "m"})).mountpoint, "m");
  const auto create = std::get<fuse::CreateOptions>(
      parse({"create", "--cluster-size", "2M", "--compression", "zstd", "a.qcow2", "10g"}));
  EXPECT_EQ(create.image, "a.qcow2");
  EXPECT_EQ(create.size, 10ull << 30);
  EXPECT_EQ(create.cluster_size, 2u << 20);
  EXPECT_EQ(create.compression, fuse::Compression::zstd);
  EXPECT_EQ(create.preallocation, fuse::Preallocation::off);
  const auto full = std::get<fuse::CreateOptions>(parse({"create", "--preallocation=full", "a.qcow2", "1m"}));
  EXPECT_EQ(full.preallocation, fuse::Preallocation::full);
  EXPECT_EQ(complaint({"create", "--preallocation", "x", "a", "1g"}),
            "--preallocation x: expected off, metadata, falloc or full");
  const auto status = std::get<fuse::StatusOptions>(parse({"status", "--json", "--watch", "m"}));
  EXPECT_TRUE(status.json && status.watch && !status.prometheus);
  EXPECT_TRUE(std::get<fuse::InfoOptions>(parse({"info", "--json", "a.qcow2"})).json);
  const auto check = std::get<fuse::CheckOptions>(parse({"check", "--data", "a.qcow2"}));
  EXPECT_EQ(check.image, "a.qcow2");
  EXPECT_TRUE(check.data);
  EXPECT_FALSE(check.json);
  EXPECT_EQ(complaint({"create", "--cluster-size", "3k", "a", "1g"}),
            "--cluster-size 3k: expected a power of two from 512 to 2m");
  EXPECT_EQ(complaint({"create", "--compression", "lz4", "a", "1g"}), "--compression lz4: expected zlib or zstd");
  EXPECT_EQ(complaint({"create", "a", "-5"}).find("accepted"), std::string::npos);
}

fuse::ConvertOptions convert(std::initializer_list<const char*> words) {
  std::vector<const char*> all = {"qcowfs", "convert"};
  all.insert(all.end(), words);
  return std::get<fuse::ConvertOptions>(fuse::parse_command_line(static_cast<int>(all.size()), all.data()));
}

TEST(Options, ConvertMakesACompressedImageWhereNothingElseIsSaid) {
  const fuse::ConvertOptions options = convert({"a.raw", "b.qcow2"});
  EXPECT_EQ(options.source, "a.raw");
  EXPECT_EQ(options.target, "b.qcow2");
  EXPECT_FALSE(options.source_format);
  EXPECT_EQ(options.target_format, fuse::ImageFormat::qcow2);
  EXPECT_EQ(options.compression, fuse::Compression::zlib);
  EXPECT_FALSE(options.level);
  EXPECT_FALSE(options.wide_window);
  EXPECT_FALSE(options.cluster_size);
}

TEST(Options, WhatConvertIsTold) {
  fuse::ConvertOptions options =
      convert({"-f", "raw", "-O", "qcow2", "--level", "9", "--window", "32K", "--cluster-size=2m", "a", "b"});
  EXPECT_EQ(options.source_format, fuse::ImageFormat::raw);
  EXPECT_EQ(options.level, 9);
  EXPECT_TRUE(options.wide_window);
  EXPECT_EQ(options.cluster_size, 2u << 20);
  options = convert({"a", "b", "--compression", "zstd"});
  EXPECT_EQ(options.compression, fuse::Compression::zstd);
  EXPECT_EQ(convert({"a", "-O", "raw", "b"}).target_format, fuse::ImageFormat::raw);
}

TEST(Options, ADashStandsForAStandardStreamWhichIsRaw) {
  const fuse::ConvertOptions options = convert({"-", "-"});
  EXPECT_EQ(options.source, fuse::standard_stream);
  EXPECT_EQ(options.target, fuse::standard_stream);
  EXPECT_EQ(options.target_format, fuse::ImageFormat::raw);
  EXPECT_EQ(convert({"-", "b"}).target_format, fuse::ImageFormat::qcow2);
  EXPECT_NE(complaint({"convert", "-f", "qcow2", "-", "b"}).find("stdin"), std::string::npos);
  EXPECT_NE(complaint({"convert", "-O", "qcow2", "a", "-"}).find("stdout"), std::string::npos);
}

TEST(Options, WhatConvertDoesNotTake) {
  EXPECT_NE(complaint({"convert", "a"}).find("TARGET"), std::string::npos);
  EXPECT_EQ(complaint({"convert", "-f", "vmdk", "a", "b"}), "-f vmdk: expected raw or qcow2");
  EXPECT_EQ(complaint({"convert", "-O", "vmdk", "a", "b"}), "-O vmdk: expected raw or qcow2");
  EXPECT_EQ(complaint({"convert", "--level", "10", "a", "b"}), "--level 10: expected a number from 1 to 9");
  EXPECT_EQ(complaint({"convert", "--level", "2x", "a", "b"}), "--level 2x: expected a number from 1 to 9");
  EXPECT_EQ(complaint({"convert", "--window", "8k", "a", "b"}), "--window 8k: expected 4k or 32k");
  EXPECT_EQ(complaint({"convert", "--compression", "zstd", "--window", "4k", "a", "b"}), "--window 4k: only for zlib");
  for (const char* option : {"--level=1", "--window=4k", "--compression=zlib", "--cluster-size=64k"}) {
    EXPECT_EQ(complaint({"convert", "-O", "raw", option, "a", "b"}),
              "a raw target has neither compression nor clusters to choose");
  }
}

TEST(Options, CompareAndMap) {
  const auto compare = std::get<fuse::CompareOptions>(parse({"compare", "-s", "-f", "raw", "-F", "qcow2", "a", "b"}));
  EXPECT_EQ(compare.left, "a");
  EXPECT_EQ(compare.right, "b");
  EXPECT_EQ(compare.left_format, fuse::ImageFormat::raw);
  EXPECT_EQ(compare.right_format, fuse::ImageFormat::qcow2);
  EXPECT_TRUE(compare.strict);
  EXPECT_FALSE(std::get<fuse::CompareOptions>(parse({"compare", "a", "b"})).left_format);
  EXPECT_NE(complaint({"compare", "a"}).find("RIGHT"), std::string::npos);
  EXPECT_EQ(complaint({"compare", "-F", "x", "a", "b"}), "-F x: expected raw or qcow2");
  EXPECT_TRUE(std::get<fuse::MapOptions>(parse({"map", "--json", "a"})).json);
  EXPECT_EQ(std::get<fuse::MapOptions>(parse({"map", "a"})).image, "a");
  EXPECT_NE(complaint({"map"}).find("IMAGE"), std::string::npos);
  const auto map = std::get<fuse::MapOptions>(parse({"map", "-o", "backing_dir=d,backing_format=raw", "a"}));
  EXPECT_EQ(map.named_files.dirs, std::vector<std::string>{"d"});
  EXPECT_EQ(map.named_files.format, "raw");
  EXPECT_EQ(complaint({"map", "-o", "level=1", "a"}), "-o level=1: only for a mount");
}

TEST(Options, Snapshots) {
  const auto made = std::get<fuse::SnapshotOptions>(parse({"snapshot", "create", "a.qcow2", "before"}));
  EXPECT_EQ(made.action, fuse::SnapshotAction::create);
  EXPECT_EQ(made.image, "a.qcow2");
  EXPECT_EQ(made.name, "before");
  EXPECT_EQ(std::get<fuse::SnapshotOptions>(parse({"snapshot", "list", "a"})).action, fuse::SnapshotAction::list);
  EXPECT_EQ(complaint({"snapshot", "list", "a", "b"}), "snapshot list: takes no NAME");
  EXPECT_EQ(complaint({"snapshot", "apply", "a"}), "snapshot apply: NAME is required");
  EXPECT_EQ(complaint({"snapshot", "undo", "a"}), "snapshot undo: expected list, create, delete or apply");
}

TEST(Options, ACheckThatIsNotUnderstoodHasNotFoundCorruption) {
  const auto status = [](std::initializer_list<const char*> words) {
    try {
      parse(words);
    } catch (const fuse::UsageError& error) {
      return error.exit_status();
    }
    return 0;
  };
  EXPECT_EQ(status({"check", "--nonsense", "a"}), 1);
  EXPECT_EQ(status({"info", "--nonsense", "a"}), 2);
}

TEST(Options, ACommaBehindABackslashBelongsToItsWord) {
  EXPECT_EQ(fuse::split_options(R"(fsname=a\,b,ro)"), (std::vector<std::string>{"fsname=a,b", "ro"}));
  EXPECT_EQ(fuse::split_options(R"(a\\,b)"), (std::vector<std::string>{R"(a\)", "b"}));
  EXPECT_EQ(fuse::split_options(",a,,b,"), (std::vector<std::string>{"a", "b"}));
}

TEST(Options, SizesHaveSuffixes) {
  EXPECT_EQ(fuse::parse_size("0"), 0u);
  EXPECT_EQ(fuse::parse_size("512"), 512u);
  EXPECT_EQ(fuse::parse_size("1k"), 1024u);
  EXPECT_EQ(fuse::parse_size("3G"), 3ull << 30);
  EXPECT_EQ(fuse::parse_size("16777215T"), 16777215ull << 40);
  EXPECT_EQ(fuse::parse_size("18446744073709551615"), 18446744073709551615ull);
  for (const char* bad : {"", "k", "-1", "1.5g", "1kb", "1 k", "1x", "16777216T", "18446744073709551616"}) {
    EXPECT_FALSE(fuse::parse_size(bad)) << bad;
  }
}

}  // namespace
