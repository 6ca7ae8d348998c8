"""The rules. Each takes a path relative to the project's root and the text, and yields (line, complaint)."""

import posixpath
import re

from tokens import Group, Token, blank_comments, full_expressions, is_lambda_introducer, parse, walk_blocks

COLUMNS_MAX = 120
LINES_MAX = 400
TEST_LINES_MAX = 800

TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md",
             "core", "fuse", "packaging", "qcow2", "tests"}  # and dot files

# A folder is a layer: it includes itself and what stands beside its name here.
MAY_INCLUDE = {
    "core": {"core"},
    "qcow2/format": {"core", "qcow2/format"},
    "qcow2/codec": {"core", "qcow2/format", "qcow2/codec"},
    "qcow2/host": {"core", "qcow2/format", "qcow2/codec", "qcow2/host"},
    "qcow2/map": {"core", "qcow2/format", "qcow2/codec", "qcow2/host", "qcow2/map"},
    "qcow2/flow": {"core", "qcow2/format", "qcow2/codec", "qcow2/host", "qcow2/map", "qcow2/flow"},
    "qcow2/offline": {"core", "qcow2/format", "qcow2/codec", "qcow2/offline"},
    "qcow2": {"core", "qcow2", "qcow2/format", "qcow2/codec", "qcow2/host", "qcow2/map", "qcow2/flow",
              "qcow2/offline"},
    "fuse": {"core", "fuse"},
}
OPEN_TO_ALL_OF_QCOW2 = {"qcow2/limits.h"}
# Where the house is wired: these see qcow2's front door too, and the room for images that nobody serves.
COMPOSITION_ROOT = re.compile(r"fuse/((main|images|soundness|\w+_verb)\.cpp|(named_file_policy|snapshot_json)\.h)$")

# Outside libraries that belong to one layer.
OWNED_LIBRARIES = [
    (re.compile(r"(fuse3/|fuse\.h|fuse_\w+\.h|linux/fuse\.h)"), "fuse"),
    (re.compile(r"(zlib\.h|zstd\w*\.h|isa-l|igzip_lib\.h|libdeflate\.h)"), "qcow2/codec"),
    (re.compile(r"(CLI|blkid)/"), "fuse"),
]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)

# Spelt in halves, so that this file keeps its own rule.
BANNED = {
    "TO" "DO": "no notes to ourselves on the main line",
    "FIX" "ME": "no notes to ourselves on the main line",
    "X" "XX": "no notes to ourselves on the main line",
    "HA" "CK": "no notes to ourselves on the main line",
    "asio::" "detached": "swallows an escaped exception; hand the coroutine to core::Supervised",
    "asio/" "detached.hpp": "swallows an escaped exception; hand the coroutine to core::Supervised",
}
BANNED_PATTERN = re.compile("|".join(r"(?<!\w)" + re.escape(word) + r"(?!\w)" for word in BANNED))


def is_cpp(path):
    return path.endswith((".h", ".cpp"))


def is_header(path):
    return path.endswith(".h")


def is_prose(path):
    return path.endswith((".md", ".1", ".8")) or path == "LICENSE"


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def layer_of(path):
    """The layer that a file of ours lies in; nothing for what no layer holds (tests)."""
    folder = posixpath.dirname(path)
    while folder and folder not in MAY_INCLUDE:
        if posixpath.dirname(folder) == "qcow2":
            return folder  # a room that the table does not know: layering() complains
        folder = posixpath.dirname(folder)
    return folder


def layering(path, text):
    layer = layer_of(path)
    if not is_cpp(path) or not layer:
        return
    if layer not in MAY_INCLUDE:
        yield 1, f"{layer}/ is no layer: give it a place in tests/tidy/rules.py"
        return
    for match in INCLUDE.finditer(blank_strings_kept(text)):
        line = line_of(text, match.start())
        quote, target = match.groups()
        ours = target.split("/")[0] in {"core", "fuse", "qcow2", "tests"} and "/" in target
        if quote == '"' and not ours:
            yield line, f'"{target}": our own headers are named from the root, others stand in <>'
            continue
        if ours:
            if ".." in target.split("/"):
                yield line, f'"{target}": no way up in an include'
            elif not may_include(path, layer, target):
                yield line, f"{layer} must not include {target}"
            continue
        for library, owner in OWNED_LIBRARIES:
            if library.match(target) and layer != owner:
                yield line, f"<{target}> belongs to {owner}/"


def may_include(path, layer, target):
    if target.startswith("tests/"):
        return False
    target_layer = layer_of(target)
    if target_layer in MAY_INCLUDE[layer]:
        return True
    if target in OPEN_TO_ALL_OF_QCOW2:
        return layer.startswith("qcow2")
    return COMPOSITION_ROOT.match(path) is not None and target_layer in {"qcow2", "qcow2/offline"}


def blank_strings_kept(text):
    """Without comments, but with the names in include lines."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.DOTALL)


def columns(path, text):
    if is_prose(path) or path.endswith(".json"):
        return
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > COLUMNS_MAX:
            yield number, f"{len(line)} columns, {COLUMNS_MAX} at most"


def white_space(path, text):
    if path == "LICENSE":
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip() and not path.endswith(".md"):
            yield number, "white space at the end of the line"
        if "\t" in line:
            yield number, "a tab"
    if text and not text.endswith("\n"):
        yield line_of(text, len(text)), "no newline at the end of the file"


def length(path, text):
    if is_prose(path):
        return
    limit = TEST_LINES_MAX if path.startswith("tests/") else LINES_MAX
    lines = text.count("\n")
    if lines > limit:
        yield limit + 1, f"{lines} lines, {limit} at most: two things live in this file"


def banned_words(path, text):
    for match in BANNED_PATTERN.finditer(text):
        yield line_of(text, match.start()), f"{match.group()}: {BANNED[match.group()]}"


def pragma_once(path, text):
    if is_header(path) and not re.search(r"(?m)^#pragma once$", blank_comments(text)):
        yield 1, "no #pragma once"


def own_header_first(path, text):
    """Which proves that the header includes what it needs."""
    if is_cpp(path) and not is_header(path):
        own = path.removesuffix(".cpp") + ".h"
        includes = [match.group(2) for match in INCLUDE.finditer(blank_strings_kept(text))]
        if own in includes[1:]:
            yield 1, f'"{own}" comes first'


def coroutines(path, text):
    """g++ 12 destroys some temporaries of a full expression with a co_await in it twice. What is known to be
    safe in the arguments of an awaited call: names, literals and single-value casts."""
    if not is_cpp(path) or "co_await" not in text:
        return
    for block in walk_blocks(parse(text)):
        for expression in full_expressions(block):
            yield from check_expression(expression)


def check_expression(expression):
    awaits = list(find_awaits(expression, []))
    if not awaits:
        return
    for line, path in awaits:
        if any(group is not None and group.opening == "{" for group, _, _ in path):
            yield line, "co_await inside a braced initialiser: give the awaited value a name first"
        elif any(is_conditional(items, index) for _, items, index in path):
            yield line, "co_await in a conditional expression: write it as if and else"
    yield from check_temporaries(expression)


def find_awaits(items, path, group=None):
    """(line, way to it) of every co_await outside the blocks; a step is (group, its items, where in them)."""
    for index, item in enumerate(items):
        here = path + [(group, items, index)]
        if isinstance(item, Token):
            if item.text == "co_await":
                yield item.line, here
        elif not item.is_block:
            yield from find_awaits(item.items, here, item)


def is_conditional(items, index):
    """Whether the item at `index` is an operand of ?: among its neighbours, as far as the commas."""
    for step in (-1, 1):
        at = index + step
        while 0 <= at < len(items) and not (isinstance(items[at], Token) and items[at].text == ","):
            if isinstance(items[at], Token) and items[at].text == "?":
                return True
            at += step
    return False


def check_temporaries(items):
    """Lambdas with captures by value and braced aggregates among the temporaries beside a co_await."""
    for index, item in enumerate(items):
        if isinstance(item, Token) or item.is_block:
            continue
        if item.opening == "[" and is_lambda(items, index) and captures_values(item):
            yield item.line, "a capturing lambda in an expression with co_await: name it on the line above"
        elif item.opening == "{" and is_aggregate(items, index):
            yield item.line, "a braced aggregate in an expression with co_await: name it on the line above"
        yield from check_temporaries(item.items)


def is_lambda(items, index):
    if not is_lambda_introducer(items[:index]) or index + 1 == len(items):
        return False
    following = items[index + 1]
    if isinstance(following, Group):
        return following.opening == "(" or following.is_block
    return following.text in {"mutable", "noexcept", "<", "->", "constexpr"}


def captures_values(group):
    capture = []
    for item in group.items + [Token(",", group.line)]:
        if isinstance(item, Token) and item.text == ",":
            if capture and not (capture[0] == "&" or capture == ["this"]):
                return True
            capture = []
        else:
            capture.append(item.text)
    return False


def is_aggregate(items, index):
    content = items[index].items
    if not content:
        return False
    if any(isinstance(item, Token) and item.text == "," for item in content):
        return True
    if isinstance(content[0], Token) and content[0].text == ".":
        return True
    # f({x}): a list or an aggregate, not a cast
    before = items[index - 1] if index > 0 else None
    return before is None or isinstance(before, Token) and before.text == ","


PER_FILE = [layering, columns, white_space, length, banned_words, pragma_once, own_header_first, coroutines]


def check_file(path, text):
    """[(line, complaint)] in the order of the lines."""
    return sorted(set(complaint for rule in PER_FILE for complaint in rule(path, text)))


def check_top_level(paths):
    """Complaints about the entries of the root that `paths` make up."""
    for entry in sorted({path.split("/")[0] for path in paths}):
        if entry not in TOP_LEVEL and not entry.startswith("."):
            yield f"{entry}: not an entry of the top level"
