"""C++ source as tokens, statements and nested brackets: as much of the language as the tidy rules need."""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<raw>(?:u8|[uUL])?R"(?P<fence>[^()\\\s]{0,16})\(.*?\)(?P=fence)")
  | (?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*")
  | (?P<char>(?:u8|[uUL])?'(?:\\.|[^'\\\n])+')
  | (?P<number>\.?\d(?:[eEpP][+-]|'[\w]|[\w.])*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<sign>->|::|<=>|<<=|<=|>=|==|!=|&&|\|\||<<|\+\+|--|[-+*/%&|^]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Token:
    text: str
    line: int


@dataclass
class Group:
    """A bracket and what it holds. Of a brace that opens a block, `statements` hold what it holds."""

    opening: str
    line: int
    items: list = field(default_factory=list)
    is_block: bool = False

    @property
    def text(self):
        return self.opening


def blank_comments(source):
    """The source with comments and the insides of strings replaced by spaces: lines and columns stay."""
    pieces = []
    for match in TOKEN.finditer(source):
        text = match.group()
        if match.lastgroup == "comment" or match.group("comment") is not None:
            text = re.sub(r"[^\n]", " ", text)
        elif match.group("raw") is not None or match.group("string") is not None:
            text = '"' + re.sub(r"[^\n]", " ", text[1:-1]) + '"'
        pieces.append(text)
    return "".join(pieces)


def tokenize(source):
    """Tokens without comments, white space and preprocessor lines."""
    source = blank_comments(source)
    source = re.sub(r"(?m)^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m.group()), source)
    tokens = []
    line = 1
    for match in TOKEN.finditer(source):
        if match.group("space") is None:
            tokens.append(Token(match.group(), line))
        line += match.group().count("\n")
    return tokens


CLOSING = {"(": ")", "[": "]", "{": "}"}
BLOCK_AFTER = {")", ";", ":", "else", "do", "try", "const", "noexcept", "override", "final", "mutable",
               "volatile", "constexpr"}
BLOCK_HEADS = {"namespace", "class", "struct", "union", "enum", "extern", "concept"}


def is_lambda_introducer(siblings):
    """Whether a `[` that follows `siblings` opens a lambda: an index follows a value, a lambda does not."""
    if not siblings:
        return True
    last = siblings[-1]
    if isinstance(last, Group):
        return last.is_block
    return last.text in {"return", "co_return", "co_await", "co_yield", "case", "else"} or not re.match(
        r"[\w\"']", last.text)


def opens_block(siblings, parent):
    """Whether a `{` that follows `siblings` opens a block, and not an initialiser."""
    if parent is not None and parent.opening == "{" and not parent.is_block:
        if not siblings or last_text(siblings) in {",", "="}:
            return False
    if parent is not None and parent.opening in "([" and not siblings:
        return False
    if not siblings:
        return True
    last = siblings[-1]
    if isinstance(last, Group):
        if last.opening == "(":
            return True
        if last.opening == "[":
            return is_lambda_introducer(siblings[:-1])
        return True  # after a block, or after the last b_{..} of a constructor's list
    if last.text in BLOCK_AFTER:
        return True
    statement = statement_before(siblings)
    texts = [item.text for item in statement]
    if texts and texts[0] == "template":
        texts = texts[1:]
    if any(head in texts for head in BLOCK_HEADS) and not any(isinstance(i, Group) and i.opening == "("
                                                              for i in statement):
        return True
    if last.text == "requires":
        return True
    # auto f() -> Type {
    if "->" in texts:
        arrow = len(texts) - 1 - texts[::-1].index("->")
        before = statement[arrow - 1] if arrow > 0 else None
        parameters = isinstance(before, Group) and before.opening == "("
        qualified = isinstance(before, Token) and before.text in {"mutable", "const", "noexcept"}
        is_type = all(not isinstance(item, Group) and re.match(r"[\w:<>,*&]+$", item.text)
                      for item in statement[arrow + 1:])
        if (parameters or qualified) and is_type:
            return True
    # Type f() const& {   and   requires Concept<T> {
    return last.text in {"&", "&&"} and len(statement) > 1 and any(
        isinstance(i, Group) and i.opening == "(" for i in statement) and "=" not in texts


def last_text(siblings):
    return siblings[-1].text if siblings else ""


def statement_before(siblings):
    """The siblings since the last end of a statement."""
    start = 0
    for index, item in enumerate(siblings):
        if isinstance(item, Token) and item.text == ";":
            start = index + 1
        elif isinstance(item, Group) and item.is_block:
            start = index + 1
    return siblings[start:]


def parse(source):
    """The source as a Group of Tokens and Groups."""
    root = Group("", 1, is_block=True)
    stack = [root]
    for token in tokenize(source):
        if token.text in CLOSING:
            parent = stack[-1]
            group = Group(token.text, token.line)
            if token.text == "{":
                group.is_block = opens_block(parent.items, parent if parent is not root else None)
            parent.items.append(group)
            stack.append(group)
        elif token.text in {")", "]", "}"}:
            # Unbalanced brackets (a preprocessor branch) close the nearest match.
            for depth in range(len(stack) - 1, 0, -1):
                if CLOSING[stack[depth].opening] == token.text:
                    del stack[depth:]
                    break
        else:
            stack[-1].items.append(token)
    return root


CONTROL = {"if", "while", "for", "switch"}


def full_expressions(block):
    """The statements of a block, each a list of items; the conditions of control statements stand alone.

    Blocks inside them, lambda bodies included, are not part of them: walk() visits those."""
    current = []
    for item in block.items:
        if isinstance(item, Token) and item.text == ";":
            yield current
            current = []
            continue
        if isinstance(item, Group) and item.is_block and not in_expression(current):
            yield current
            current = []
            continue
        if isinstance(item, Group) and item.opening == "(" and current and is_control(current):
            yield from full_expressions(item)
            current = []
            continue
        current.append(item)
    yield current


def is_control(current):
    texts = [item.text for item in current]
    if texts[-1] in CONTROL:
        return True
    return len(texts) > 1 and texts[-1] == "constexpr" and texts[-2] == "if"


def in_expression(current):
    """Whether a block that follows is the body of a lambda, so that the expression goes on after it."""
    for index in range(len(current) - 1, -1, -1):
        item = current[index]
        if isinstance(item, Group) and item.opening == "[" and is_lambda_introducer(current[:index]):
            inside = item.items[0] if item.items else None
            return not (isinstance(inside, Group) and inside.opening == "[")  # an [[attribute]]
    return False


def walk_blocks(group):
    """Every block, from the outside in."""
    if group.is_block:
        yield group
    for item in group.items:
        if isinstance(item, Group):
            yield from walk_blocks(item)
