#!/usr/bin/env -S python3 -B
"""Broken twins for every rule: each must be caught, and each sound neighbour must pass."""

import os
import subprocess
import sys
import tempfile
import unittest


import rules  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


def complaints(path, text):
    if path.endswith(".h") and "#pragma once" not in text:
        text = "#pragma once\n" + text
    return [complaint for _, complaint in rules.check_file(path, text)]


class Case(unittest.TestCase):
    def assert_caught(self, path, text, word):
        found = complaints(path, text)
        self.assertTrue(any(word in complaint for complaint in found), f"{path}: {text!r}: {found}")

    def assert_clean(self, path, text):
        self.assertEqual(complaints(path, text), [], f"{path}: {text!r}")


class Layering(Case):
    def test_includes_that_point_the_wrong_way_are_caught(self):
        for path, target in [
            ("core/bytes.h", "qcow2/image.h"),
            ("core/bytes.h", "fuse/session.h"),
            ("core/bytes.cpp", "qcow2/limits.h"),
            ("qcow2/format/header.h", "qcow2/codec/codec.h"),
            ("qcow2/format/header.h", "qcow2/host/allocator.h"),
            ("qcow2/codec/zstd.cpp", "qcow2/host/allocator.h"),
            ("qcow2/host/allocator.cpp", "qcow2/map/l2_table.h"),
            ("qcow2/host/allocator.cpp", "qcow2/image.h"),
            ("qcow2/map/l2_table.cpp", "qcow2/flow/commit.h"),
            ("qcow2/flow/commit.cpp", "qcow2/image.h"),
            ("qcow2/image.cpp", "fuse/session.h"),
            ("qcow2/flow/commit.cpp", "fuse/session.h"),
            ("fuse/operations.cpp", "qcow2/image.h"),
            ("fuse/operations.cpp", "qcow2/limits.h"),
            ("fuse/main.cpp", "qcow2/format/header.h"),
            ("fuse/info_verb.cpp", "qcow2/flow/reader.h"),
            ("fuse/info_verb.h", "qcow2/info.h"),
            ("core/bytes.h", "tests/support/scripted_file.h"),
        ]:
            with self.subTest(path=path, target=target):
                self.assert_caught(path, f'#include "{target}"\n', "must not include")
                self.assert_caught(path, f"#  include <{target}>\n", "must not include")

    def test_includes_that_point_down_pass(self):
        for path, target in [
            ("core/bytes.h", "core/offset.h"),
            ("qcow2/format/header.h", "core/bytes.h"),
            ("qcow2/format/header.h", "qcow2/limits.h"),
            ("qcow2/codec/codec.h", "qcow2/format/compression_type.h"),
            ("qcow2/host/allocator.cpp", "qcow2/codec/codec.h"),
            ("qcow2/map/l2_table.cpp", "qcow2/host/allocator.h"),
            ("qcow2/flow/commit.cpp", "qcow2/map/l2_table.h"),
            ("qcow2/image.cpp", "qcow2/flow/commit.h"),
            ("qcow2/create.h", "qcow2/codec/codec.h"),
            ("fuse/operations.cpp", "core/guest_disk.h"),
            ("fuse/main.cpp", "qcow2/image.h"),
            ("fuse/info_verb.cpp", "qcow2/info.h"),
            ("tests/unit/qcow2/image_test.cpp", "qcow2/flow/commit.h"),
        ]:
            with self.subTest(path=path, target=target):
                self.assert_clean(path, f'#include "{target}"\n')

    def test_ways_around_are_caught(self):
        self.assert_caught("core/bytes.h", '#include "offset.h"\n', "named from the root")
        self.assert_caught("core/bytes.h", '#include "../qcow2/image.h"\n', "named from the root")
        self.assert_caught("core/bytes.h", '#include "core/../qcow2/image.h"\n', "no way up")
        self.assert_caught("qcow2/cellar/barrel.h", '#include "core/bytes.h"\n', "is no layer")

    def test_libraries_stay_with_their_owner(self):
        self.assert_caught("qcow2/image.cpp", "#include <fuse3/fuse_lowlevel.h>\n", "belongs to fuse/")
        self.assert_caught("core/engine.cpp", "#include <zlib.h>\n", "belongs to qcow2/codec/")
        self.assert_caught("qcow2/flow/encoder.cpp", "#include <isa-l.h>\n", "belongs to qcow2/codec/")
        self.assert_clean("qcow2/codec/deflate.cpp", "#include <zlib.h>\n")
        self.assert_clean("fuse/session.cpp", "#include <fuse3/fuse_lowlevel.h>\n")

    def test_an_include_in_a_comment_is_none(self):
        self.assert_clean("core/bytes.h", '// #include "qcow2/image.h"\n/*\n#include "qcow2/image.h"\n*/\n')


class Form(Case):
    def test_long_lines(self):
        most = "x" * rules.COLUMNS_MAX + "\n"
        self.assert_clean("core/a.cpp", most)
        self.assert_caught("core/a.cpp", "x" + most, "columns")
        self.assert_caught("tests/run", "x" + most, "columns")
        self.assert_clean("README.md", "x" + most)
        self.assert_clean("core/a.cpp", most.replace("x", "é"))

    def test_long_files(self):
        self.assert_clean("core/a.cpp", "\n" * 400)
        self.assert_caught("core/a.cpp", "\n" * 401, "two things")
        self.assert_clean("tests/unit/a.cpp", "\n" * 800)
        self.assert_caught("tests/unit/a.cpp", "\n" * 801, "two things")

    def test_white_space(self):
        self.assert_caught("core/a.cpp", "int a; \n", "end of the line")
        self.assert_caught("core/a.cpp", "\tint a;\n", "a tab")
        self.assert_caught("core/a.cpp", "int a;", "no newline")

    def test_headers_without_pragma_once(self):
        self.assertEqual(rules.check_file("core/a.h", "int a();\n"), [(1, "no #pragma once")])
        self.assertEqual(rules.check_file("core/a.h", "// #pragma once\n"), [(1, "no #pragma once")])
        self.assertEqual(rules.check_file("core/a.h", "// What it is.\n#pragma once\n"), [])
        self.assertEqual(rules.check_file("core/a.cpp", "int a();\n"), [])

    def test_the_own_header_comes_first(self):
        self.assert_caught("core/a.cpp", '#include <map>\n\n#include "core/a.h"\n', "comes first")
        self.assert_clean("core/a.cpp", '// Why.\n#include "core/a.h"\n\n#include <map>\n')
        self.assert_clean("core/a.cpp", '#include <map>\n\n#include "core/b.h"\n')

    def test_banned_words(self):
        for word in rules.BANNED:
            with self.subTest(word=word):
                self.assert_caught("core/a.cpp", f"// {word}: later\n", word)
                self.assert_caught("tests/run", f"# {word}\n", word)
                self.assert_clean("core/a.cpp", f"mk{word}XX();\n")
        self.assert_caught("core/a.cpp", "co_spawn(x, f(), boost::asio::" + "detached);\n", "swallows")

    def test_the_top_level(self):
        sound = ["core/a.h", "README.md", ".clang-tidy", ".ci/run", "tests/run", "CMakePresets.json"]
        self.assertEqual(list(rules.check_top_level(sound)), [])
        self.assertEqual(list(rules.check_top_level(sound + ["notes.txt", "src/a.cpp"])),
                         ["notes.txt: not an entry of the top level", "src: not an entry of the top level"])


def coroutine(*lines):
    return "core::Awaitable<void> Room::work(int a) {\n  " + "\n  ".join(lines) + "\n}\n"


class Coroutines(Case):
    def test_co_await_inside_braces(self):
        for line in [
            "const Options options{a, co_await size()};",
            "const Options options = {a, co_await size()};",
            "const Options options{.a = co_await size()};",
            "std::vector<int> list = {co_await first()};",
            "use(Options{co_await size()});",
            "co_return Options{a, co_await size()};",
            "return_value = Outer{1, {co_await size()}};",
            "member_{co_await size()};",
        ]:
            with self.subTest(line=line):
                self.assert_caught("core/a.cpp", coroutine(line), "inside a braced initialiser")

    def test_co_await_in_a_conditional_expression(self):
        for line in [
            "const int size = known ? known_size : co_await ask();",
            "const int size = known ? co_await ask() : 0;",
            "use(a, known ? co_await ask() : 0);",
            "const int size = known ? (co_await ask()) : 0;",
            "const int size = co_await known() ? 1 : 0;",
            "co_return done ? finish(co_await ask()) : 0;",
        ]:
            with self.subTest(line=line):
                self.assert_caught("core/a.cpp", coroutine(line), "conditional expression")

    def test_capturing_lambdas_as_temporaries(self):
        for line in [
            "co_await pool.run([name] { return name; });",
            "co_await pool.run([name = std::move(name)]() mutable { return name; });",
            "co_await pool.run([=] { return name; });",
            "co_await run(pool, [this, name] { return name; });",
            "const int x = co_await run(pool, [&a, name](int b) -> int { return b; });",
            "co_await co_spawn(ex, [sp]() -> core::Awaitable<void> { co_return; }, use_awaitable);",
        ]:
            with self.subTest(line=line):
                self.assert_caught("core/a.cpp", coroutine(line), "capturing lambda")

    def test_aggregates_as_temporaries(self):
        for line in [
            "co_await write(Options{a, b});",
            "co_await write({a, b});",
            "co_await write({.a = a});",
            "co_await write(Options{.a = a});",
            "co_await write(at, {name});",
            "const auto x = co_await outer(co_await inner(Options{a, b}));",
            "if (co_await write({a, b})) use();",
            "for (auto& x : co_await list(Options{a, b})) use(x);",
            "keep(co_await size(), Options{a, b});",
        ]:
            with self.subTest(line=line):
                self.assert_caught("core/a.cpp", coroutine(line), "braced aggregate")

    def test_lambda_bodies_are_looked_into(self):
        named = coroutine("auto step = [&]() -> core::Awaitable<void> {",
                          "  co_await write(Options{a, b});",
                          "};")
        self.assert_caught("core/a.cpp", named, "braced aggregate")
        temporary = coroutine("group.spawn([](Room& room) -> core::Awaitable<void> {",
                              "  const int a = b ? co_await room.size() : 0;",
                              "}(*this));")
        self.assert_caught("core/a.cpp", temporary, "conditional")

    def test_plain_lines_pass(self):
        for lines in [
            ["co_await write(options);"],
            ["co_await write(std::move(options), 3, core::Bytes(memory));"],
            ["co_await read(GuestOffset{a + 1}, std::string{});"],
            ["auto job = [cluster = std::move(cluster)]() mutable { return encode(std::move(cluster)); };",
             "co_return co_await pool_.run(std::move(job));"],
            ["const Options options{a, b};", "co_await write(options);"],
            ["co_await asio::async_initiate<const T, void()>([&](auto handler) { use(handler); }, token);"],
            ["co_await run([] { return 1; });"],
            ["co_await run([this, &a] { return a; });"],
            ["if (co_await ready()) {", "  use(Options{a, b});", "} else {", "  co_await wait();", "}"],
            ["if (co_await ready()) co_return Options{a, b};"],
            ["while (co_await more()) use({a, b});"],
            ["for (const auto& x : co_await list()) use({x, a});"],
            ["const int size = a ? 1 : 2;", "co_await wait();"],
            ["switch (kind) {", "  case Kind::a:", "    co_await wait();", "    break;",
             "  default: co_await other();", "}"],
            ["co_return Options{a, b};"],
            ["try {", "  co_await wait();", "} catch (const core::Error& e) {", "  use({a, b});", "}"],
            ["do {", "  co_await wait();", "} while (a ? b : c);"],
            ["values[index] = co_await wait();", "use({a, b});"],
            ["auto& [first, second] = *found;", "co_await wait();"],
            ["core::Buffer copy(16);", "{", "  co_await wait();", "}"],
            ["/* c ? co_await a() : Options{1, co_await b()} */ co_await wait(\"? {\");"],
        ]:
            with self.subTest(lines=lines):
                self.assert_clean("core/a.cpp", coroutine(*lines))

    def test_shapes_of_functions_are_blocks(self):
        for head in [
            "auto Room::work() const -> core::Awaitable<std::vector<int>> {",
            "core::Awaitable<void> Room::work() const noexcept {",
            "core::Awaitable<void> Room::work() override {",
            "template <class T>\n  requires std::integral<T>\ncore::Awaitable<void> Room::work(T value) {",
            "core::Awaitable<void> Room::work() const& {",
            "Room::Room() : a_(1), b_{2} {",
        ]:
            with self.subTest(head=head):
                self.assert_clean("core/a.cpp", f"{head}\n  co_await wait();\n}}\n")
        self.assert_clean("core/a.cpp",
                          "namespace core {\nnamespace {\nclass Room final : public House {\n public:\n"
                          "  Awaitable<void> work() { co_await wait(); }\n  Options options_{1, 2};\n"
                          "};\n}\n}\n")


class Program(unittest.TestCase):
    def run_tidy(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            return subprocess.run([sys.executable, "-B", os.path.join(HERE, "tidy"), root],
                                  capture_output=True, text=True, check=False)

    def test_a_clean_house_passes(self):
        done = self.run_tidy({"core/a.h": "#pragma once\n"})
        self.assertEqual((done.returncode, done.stdout), (0, "tidy: 1 files, 0 complaints\n"))

    def test_a_fault_fails_and_names_its_line(self):
        done = self.run_tidy({"core/a.cpp": '#include "core/a.h"\n#include "fuse/b.h"\n', "stray.txt": "\n"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("core/a.cpp:2: core must not include fuse/b.h\n", done.stdout)
        self.assertIn("stray.txt: not an entry of the top level\n", done.stdout)

    def test_an_empty_root_fails(self):
        self.assertEqual(self.run_tidy({}).returncode, 1)


if __name__ == "__main__":
    unittest.main()
