#!/usr/bin/env -S python3 -B
"""The manual and the completions know each command and option that --help tells of, and the manual no other."""

import os
import re
import shlex
import shutil
import unittest

import house
from house import QCOWFS, ROOT, run

PACKAGING = os.path.join(ROOT, "packaging")
EVERYWHERE = {"-h", "--help", "-V", "--version"}


def help_of(command):
    return run(QCOWFS, *([command] if command else []), "--help").stdout


def commands():
    return re.findall(r"(?m)^  qcowfs ([a-z]+) ", help_of(""))


def options(text):
    """{names} of a --help."""
    before = text.partition("Options for -o:")[0]
    return {name for names in re.findall(r"(?m)^  (-\S+)", before) for name in names.split(",")}


def words():
    """{names} for -o, with = where they have a value, and {name: [values]} of those that are a choice."""
    found = re.search(r"(?s)Options for -o:\n(.*?)\n\S", help_of("")).group(1)
    names, choices = set(), {}
    for line in re.findall(r"(?m)^  ([a-z](?:\S|(?<=,) )*)", found):
        for word in re.split(", *", line):
            name, equals, value = word.partition("=")
            names.add(name + equals)
            if "|" in value:
                choices[name + equals] = value.split("|")
    return names, choices


def manual(page):
    """{section: source}, where hyphens are plain ones."""
    with open(os.path.join(PACKAGING, "man", page), encoding="utf-8") as file:
        source = re.sub(r"\\f.", "", file.read().replace("\\-", "-"))
    parts = re.split(r'(?m)^\.S[HS] (.*)$', source)
    return dict(zip(parts[1::2], parts[2::2]))


def tags(source):
    """What its tagged paragraphs explain."""
    lines = re.findall(r"(?m)^\.TP\n\.[BIR]+ (.*)$", source)
    return {name.split(" ")[0] for line in lines for name in "".join(shlex.split(line)).split(", ")}


class Reading(unittest.TestCase):
    """What is read of --help is what is there: the other tests could not fail if it were nothing."""

    def test_help_is_understood(self):
        self.assertLessEqual({"umount", "create", "check", "snapshot"}, set(commands()))
        self.assertLessEqual({"-f", "--foreground", "-o"} | EVERYWHERE, options(help_of("")))
        self.assertLessEqual({"-O", "--window"}, options(help_of("convert")))
        names, choices = words()
        self.assertLessEqual({"ro", "rw", "level=", "backing_format=", "umask=", "writeback_cache", "dirsync"}, names)
        self.assertEqual(choices["direct="], ["on", "off", "auto"])


class Manual(unittest.TestCase):
    def setUp(self):
        self.sections = manual("qcowfs.1")

    def test_each_command_has_a_section_and_a_synopsis(self):
        for command in commands():
            with self.subTest(command=command):
                self.assertIn(command.upper(), list(self.sections))
                self.assertIn(f".B qcowfs {command}\n", self.sections["SYNOPSIS"])

    def test_options_of_commands(self):
        for name in EVERYWHERE:
            self.assertIn(name, self.sections["DESCRIPTION"])
        for command in commands():
            with self.subTest(command=command):
                self.assertEqual(tags(self.sections.get(command.upper(), "")), options(help_of(command)) - EVERYWHERE)

    def test_options_of_mounts(self):
        self.assertEqual(tags(self.sections["MOUNT"]), options(help_of("")) - EVERYWHERE)
        names, choices = words()
        explained = tags(self.sections["Options for -o"])
        self.assertEqual({re.sub("=.*", "=", tag) for tag in explained}, names)
        for name, values in choices.items():
            self.assertIn(name + "|".join(values), explained)

    def test_no_warnings(self):
        for page in os.listdir(os.path.join(PACKAGING, "man")):
            path = os.path.join(PACKAGING, "man", page)
            self.assertEqual(run("mandoc", "-Tlint", "-Wwarning", path, expect=None).stdout, "")
            done = run("man", "--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l", path,
                       env=os.environ | {"LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"})
            self.assertEqual(done.stderr, "")

    def test_the_mount_helper(self):
        sections = manual("mount.qcowfs.8")
        self.assertIn("mount -t qcowfs", sections["SYNOPSIS"])


class Completions(unittest.TestCase):
    """Each shell's, by what it offers. `typed` are the words so far, the last one unfinished."""

    def check_shell(self, offered):
        self.assertLessEqual(set(commands()), offered([""]))
        self.assertLessEqual(options(help_of("")), offered(["-"]))
        for command in commands():
            with self.subTest(command=command):
                self.assertLessEqual(options(help_of(command)), offered([command, "-"]))
        names, choices = words()
        expected = {name + value for name, values in choices.items() for value in values}
        expected |= names - set(choices)
        self.assertLessEqual(expected, offered(["-o", ""]))
        self.assertIn("snapshot=", {word.rpartition(",")[2] for word in offered(["-o", "ro,"])})
        self.assertEqual(offered(["convert", "--compression", ""]), {"zlib", "zstd"})
        self.assertEqual(offered(["snapshot", ""]), {"list", "create", "delete", "apply"})
        self.assertIn("disk.qcow2", offered(["check", ""]))

    def setUp(self):
        self.folder = house.folder(self)
        with open(os.path.join(self.folder, "disk.qcow2"), "wb"):
            pass
        self.environment = os.environ | {"HOME": self.folder, "LC_ALL": "C.UTF-8",
                                         "PATH": os.path.dirname(QCOWFS) + ":" + os.environ["PATH"]}

    def ask(self, *command):
        done = run(*command, cwd=self.folder, env=self.environment)
        return {line for line in done.stdout.splitlines() if line}

    def has(self, shell):
        if shutil.which(shell) is None:
            house.lacks(self, f"{shell} is not installed")

    def test_bash(self):
        script = """
            source /usr/share/bash-completion/bash_completion
            source "$1"; shift
            compopt() { :; }
            COMP_WORDS=(qcowfs "$@"); COMP_CWORD=$#; COMP_LINE="qcowfs $*"; COMP_POINT=${#COMP_LINE}
            _qcowfs
            printf '%s\\n' "${COMPREPLY[@]}" """
        path = os.path.join(PACKAGING, "completions/qcowfs.bash")
        self.check_shell(lambda typed: self.ask("bash", "--norc", "-c", script, "bash", path, *typed))

    def test_zsh(self):
        self.has("zsh")
        script = """
            compadd() {
              while [[ $1 != -- ]]; do shift; done
              shift; print -l -- "$@"
            }
            _files() { print -l -- *(N) }
            completion=$1; shift
            words=(qcowfs "$@"); CURRENT=$#words
            source $completion"""
        path = os.path.join(PACKAGING, "completions/qcowfs.zsh")
        self.check_shell(lambda typed: self.ask("zsh", "-f", "-c", script, "zsh", path, *typed))

    def test_fish(self):
        self.has("fish")
        path = os.path.join(PACKAGING, "completions/qcowfs.fish")

        def offered(typed):
            lines = self.ask("fish", "--no-config", "-c", f"source '{path}'; complete -C 'qcowfs {' '.join(typed)}'")
            return {line.partition("\t")[0] for line in lines}

        self.check_shell(offered)


if __name__ == "__main__":
    house.main()
