#!/usr/bin/env python3
"""reference.py - the reference of every public symbol, made from the headers.

    docs/reference.py --update       writes docs/reference.md, the index, and the tables of docs/cancellation.md, which
                                     are committed
    docs/reference.py --man FOLDER   writes the manual's pages, section 3, which are installed
    docs/reference.py                tells what is missing; tests/reference_test.py runs that, too

A symbol's comment is the one right above it; declarations without a blank line between them share it. A comment that
begins with "The same" has the lines that it lacks (returns, context, ...) from the comment of the function before; a
call without a `context` then has that of its header's top comment. The words of `context` are those that the top of
weft/base.h explains; what follows them in a sentence of its own is for people:

    context    task: suspends, cancellation point (nothing was moved); plain thread: blocks it. It takes milliseconds
"""
import errno
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "runtime", "package"))
import symbols  # noqa: E402

UPDATE = "if that is meant: python3 docs/reference.py --update"
NOT_FOR_USERS = {"WEFT_API", "WEFT_CHECK", "WEFT_PRINTF"}
KEYS = ("returns", "on error", "context", "ordering", "errors", "source")
KEY = re.compile(r"(%s) {2,}(\S.*)" % "|".join(KEYS))
TOKEN = re.compile(r"""
    (?P<blank>      \n[ \t]*\n)
  | (?P<comment>    ^/\*.*?\*/)
  | (?P<define>     ^\#define[ ]+(?P<macro>\w+)(?P<parameters>\([^)]*\))?(?:[^\n]*\\\n)*[^\n]*)
  | (?P<directive>  ^\#[^\n]*)
  | (?P<struct>     ^(?:typedef[ ]+)?struct[ ]+(?P<tag>weft_\w+)[ ]*\{(?P<body>.*?)\n\}[^;]*;)
  | (?P<enum>       ^(?:typedef[ ]+)?enum[ ]+(?P<set>weft_\w+)[ ]*\{(?P<members>[^}]*)\}[^;]*;)
  | (?P<opaque>     ^typedef[ ]+struct[ ]+(?P<forward>weft_\w+)[ ]+(?P=forward);)
  | (?P<type>       ^typedef[ ][^;{]*?\b(?P<alias>weft_\w+)(?:\([^;]*\))?;)
  | (?P<function>   ^(?:WEFT_CHECK[ ]+)?WEFT_API[ ][^;]*;)
  | (?P<inline>     ^(?P<says>static[ ]inline[ ][^{;]*?\b(?P<inlined>weft_\w+)\([^)]*\))\s*\{.*?\n\})
""", re.S | re.M | re.X)
KINDS = ("blank", "comment", "define", "directive", "struct", "enum", "opaque", "type", "function", "inline")
FIELD = re.compile(r"(?P<field>[^;]+;)(?P<comment>[ \t]*\n?[ \t]*/\*.*?\*/)?", re.S)

PLACES = {"task", "plain thread", "any thread", "signal handler"}
WAYS = {"suspends", "never suspends", "blocks it", "yields the processor", "calls fn directly"}
ASIDES = {"on arg itself", "whatever it was told"}
CANCEL = re.compile(r"cancellation point(?: until [\w ]+?)?(?: \((?P<then>[^()]+)\))?$")


class Comment:
    """Prose, and the lines with a key."""

    def __init__(self, text):
        lines = [re.sub(r"^ \* ?", "", line) for line in text[2:-2].split("\n")]
        self.prose, self.keys, at = [], {}, None
        for line in (line.rstrip() for line in lines):
            line = line[1:] if not self.prose and not at and line.startswith(" ") else line
            key = KEY.match(line)
            if key:
                at = key.group(1)
                self.keys[at] = [key.group(2)]
            elif at and line.startswith("           "):
                self.keys[at].append(line[11:])
            elif line or not at:
                at = None
                self.prose.append(line)
        while self.prose and not self.prose[-1]:
            self.prose.pop()
        self.inherits = None

    def key(self, name):
        """The lines of a key, perhaps of the comment that this one is the same as."""
        if name in self.keys or not self.inherits:
            return self.keys.get(name)
        return self.inherits.comment.key(name)

    def summary(self):
        first = " ".join(" ".join(self.prose).split())
        if self.inherits and first.startswith("The same"):
            first = "As `%s`%s" % (self.inherits.names()[0], first[len("The same"):])
        m = re.match(r".*?(?<!\.)\.(?= |$)", first)
        return m.group() if m else first


class Block:
    """Declarations that share a comment."""

    def __init__(self, header, comment):
        self.header, self.comment, self.symbols = header, comment, []

    def names(self):
        return [s["name"] for s in self.symbols]


def say_code(declaration):
    return re.sub(r"\b(WEFT_CHECK|WEFT_API) ", "", re.sub(r" ?\bWEFT_PRINTF\([^)]*\)", "", declaration))


def function_name(declaration, header):
    text = symbols.MARK.sub("", " ".join(say_code(declaration).split()).rstrip(";").strip())
    p = symbols.PROTOTYPE.match(text)
    if not p:
        raise SystemExit("%s: cannot read %r" % (header, text))
    return p.group("name")


def read_header(path, header):
    """The top comment, and the blocks."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    top, block, comment, before, blocks = None, None, None, None, []

    def add(kind, name, declaration, **more):
        nonlocal block, before
        if block is None:
            block = Block(header, comment)
            if comment and comment.prose and comment.prose[0].startswith("The same"):
                comment.inherits = before
            blocks.append(block)
        block.symbols.append(dict(kind=kind, name=name, header=header, block=block, declaration=declaration, **more))
        if kind == "function" and comment:
            before = block

    at = 0
    while True:
        m = TOKEN.search(text, at)
        between = re.sub(r"^struct \w+;", "", text[at:m.start() if m else len(text)].strip()).strip()  # of another's header
        if between not in ("", "}", 'extern "C" {'):
            raise SystemExit("%s: cannot read %r" % (header, between))
        if not m:
            return top, blocks
        at = m.end()
        kind = next(k for k in KINDS if m.group(k) is not None)
        if kind == "comment":
            comment, block = Comment(m.group()), None
            top = top or comment
        elif kind in ("blank", "directive"):
            comment = block = None
            at -= kind == "blank"  # the line's end may begin another
        elif kind == "define":
            name = m.group("macro")
            if name not in NOT_FOR_USERS and not name.endswith("_H"):
                add("macro", name, m.group(), parameters=m.group("parameters") or "")
        elif kind == "struct":
            add("struct", m.group("tag"), m.group(), fields=[
                (" ".join(f.group("field").split()), bool(f.group("comment")))
                for f in FIELD.finditer(m.group("body"))])
        elif kind == "enum":
            add("enum", m.group("set"), m.group())
            for member in re.findall(r"\bWEFT_\w+", re.sub(r"/\*.*?\*/", "", m.group("members"), flags=re.S)):
                add("constant", member, member)
        elif kind == "opaque":
            add("opaque", m.group("forward"), m.group())
        elif kind == "type":
            add("type", m.group("alias"), m.group())
        elif kind == "function":
            add("function", function_name(m.group(), header), m.group())
        else:
            add("function", m.group("inlined"), m.group("says") + ";")


class Reference:
    """All headers; and what is wrong with them in `faults`."""

    def __init__(self, root):
        self.faults, self.tops, self.blocks = [], {}, []
        self.interface = symbols.read(root)
        for name in sorted(os.listdir(os.path.join(root, "weft"))):
            if name.endswith(".h"):
                header = "weft/" + name
                self.tops[header], blocks = read_header(os.path.join(root, header), header)
                self.blocks += blocks
        self.symbols = self.merge([s for b in self.blocks for s in b.symbols])
        self.check()

    def merge(self, found):
        """A type may be declared ahead by several headers: the struct counts, else the comment."""
        named = {}
        for s in found:
            old = named.get(s["name"])
            if not old or (s["kind"], bool(s["block"].comment)) > (old["kind"], bool(old["block"].comment)):
                named[s["name"]] = s
        return [s for s in found if named[s["name"]] is s]

    def fault(self, s, text):
        self.faults.append("%s: %s: %s" % (s["header"], s["name"], text))

    def check(self):
        known = {s["name"] for s in self.symbols}
        for kind in ("functions", "structs", "types", "constants"):
            for s in self.interface[kind]:
                if s["name"] not in known:
                    self.fault(s, "symbols.py finds it, and the reference does not")
        for s in self.symbols:
            comment = s["block"].comment
            if not comment or not comment.prose:
                self.fault(s, "has no comment right above it")
            for text, commented in s.get("fields", []):
                if s["name"].endswith("_options") and not commented:
                    self.fault(s, "the field `%s` has no comment" % text.rstrip(";"))
            if s["kind"] == "function":
                s["context"] = self.context(s)
        for comment in [b.comment for b in self.blocks] + list(self.tops.values()):
            self.errnos(comment)

    def errnos(self, comment):
        where = next((s for b in self.blocks if b.comment is comment for s in b.symbols), None)
        header = next((h for h, top in self.tops.items() if top is comment), "")
        where = where or {"header": header, "name": "its top comment"}
        text = "\n".join(comment.prose + [line for k in comment.keys.values() for line in k]) if comment else ""
        for name in sorted(set(re.findall(r"-(E[A-Z0-9]{2,})\b", text))):
            if not hasattr(errno, name):
                self.fault(where, "errno.h knows no %s" % name)

    def context(self, s):
        """Where it may be called, whether it suspends, ...: as they are shown."""
        comment = s["block"].comment
        lines = (comment.key("context") if comment else None) or self.tops[s["header"]].keys.get("context")
        if not lines:
            return self.fault(s, "no `context`, neither its own nor its header's")
        text = " ".join(lines)
        words = re.match(r"(?:[^.(]|\([^)]*\))*", text).group()
        out = {"text": text, "places": set(), "suspends": None, "cancel": None, "then": "",
               "blocks": "blocks it" in words, "more": text[len(words):].lstrip(". ")}
        for clause in items(words):
            places, _, ways = clause.partition(": ")
            if clause == "owner":
                out["places"].add("owner")
                continue
            named = {p.strip() for p in places.split(",")}
            if not ways or not named <= PLACES:
                return self.fault(s, "`context`: cannot read %r; places are %s" % (clause, ", ".join(sorted(PLACES))))
            out["places"] |= named
            for way in re.split(r", (?![^(]*\))", ways):
                point = CANCEL.match(way)
                if point:
                    out["cancel"] = True
                    out["then"] = way[len("cancellation point"):].replace(" until", ", until")
                    if not point.group("then"):
                        self.fault(s, "a cancellation point, and not a word in brackets on what is then lost")
                elif way == "not a cancellation point":
                    out["cancel"] = False
                elif way in ("suspends", "never suspends") and "plain thread" not in named:
                    out["suspends"] = way == "suspends"
                elif way not in WAYS | ASIDES:
                    return self.fault(s, "`context`: %r is not one of its words" % way)
        if out["suspends"] is None and out["places"] & {"task", "any thread"}:
            return self.fault(s, "whether it suspends is not said")
        if out["cancel"] is None:
            if out["suspends"] is not False:
                return self.fault(s, "whether it is a cancellation point is not said")
            out["cancel"] = False
        if out["cancel"]:
            top = self.tops[s["header"]]
            told = (comment and comment.key("returns") or []) + (top.keys.get("errors") or [])
            if not any("-ECANCELED" in line for line in told):
                self.fault(s, "a cancellation point that does not return -ECANCELED")
        return out


# ---- the index

def where(context):
    if "owner" in context["places"]:
        return "owner"
    places = context["places"] - {"signal handler"}
    return "any thread" if places >= {"task", "plain thread"} else ", ".join(sorted(places))


def properties(context):
    suspends = "—" if context["suspends"] is None else "yes" if context["suspends"] else "no"
    return (where(context), suspends, "yes" + context["then"] if context["cancel"] else "no",
            "yes" if "signal handler" in context["places"] else "no")


def row(*cells):
    return "| %s |\n" % " | ".join(c.replace("|", "\\|") for c in cells)


HEAD = """# Reference

Every public symbol, from the headers by `docs/reference.py`, which also makes the manual's pages (`man weft_read`):
change the headers, and then `python3 docs/reference.py --update`. The columns are the `context` lines; their words
are explained at the top of `weft/base.h`. "Suspends" is about tasks: a plain thread is blocked there.
"""


def index(ref):
    out = [HEAD + "\n## Functions\n\n",
           row("name", "header", "", "where", "suspends", "cancellation point", "signal handler"),
           row(*["---"] * 7)]
    for s in ref.symbols:
        if s["kind"] == "function":
            context = s.get("context")
            cells = properties(context) if context else ("?",) * 4
            out.append(row("`%s`" % s["name"], "`%s`" % s["header"], summary(s), *cells))
    for title, kinds in (("Macros, constants", ("macro", "constant")),
                         ("Types", ("struct", "enum", "opaque", "type"))):
        out += ["\n## %s\n\n" % title, row("name", "header", ""), row(*["---"] * 3)]
        out += [row("`%s%s`" % (s["name"], s.get("parameters", "")), "`%s`" % s["header"], summary(s))
                for s in ref.symbols if s["kind"] in kinds]
    return "".join(out)


# ---- the tables of docs/cancellation.md

TABLE = re.compile(r"(<!-- (points|not points), by docs/reference.py -->\n\n).*?(<!-- end -->)", re.S)


def cancellation(ref, text):
    """The text of docs/cancellation.md with its tables as the headers are now: what a cancel ends, and what it does not."""
    return TABLE.sub(lambda m: m.group(1) + table(ref, m.group(2) == "points") + "\n" + m.group(3), text)


def table(ref, points):
    out = [row("call", "what a cancel then loses" if points else "", "") + row(*["---"] * 3)] if points else [
        row("call", "") + row(*["---"] * 2)]
    for block in ref.blocks:
        alike = {}
        for s in block.symbols:
            context = s.get("context")
            if context and s in ref.symbols and context["cancel"] == points and (points or waits(context)):
                alike.setdefault(context["text"], []).append(s)
        for those in alike.values():
            context = those[0]["context"]
            names = ", ".join("`%s`" % s["name"] for s in those)
            more = "" if context["more"] == "As above" else context["more"]
            out.append(row(names, lost(context["then"]), more) if points else row(names, more))
    return "".join(out)


def waits(context):
    return context["suspends"] or context["blocks"]


def lost(then):
    """Without the brackets."""
    until, _, rest = then.strip(", ").partition("(")
    return (until.strip() + ": " if until.strip() else "") + rest.rstrip(")")


def summary(s):
    return s["block"].comment.summary() if s["block"].comment else ""


# ---- the manual

def roff(line):
    line = line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + line if line.startswith((".", "\\(aq")) else line


def marked(text, bold):
    """Prose: our own names are bold, and `arguments` in italics."""
    out = []
    for i, part in enumerate(re.split(r"`([^`]+)`", text)):
        part = roff(part)
        if i % 2:
            out.append("\\fI%s\\fP" % part)
        else:
            out.append(re.sub(r"\b(weft_\w+|WEFT_\w+)", lambda m: "\\fB%s\\fP" % m.group(1) if m.group(1) in bold
                              else m.group(1), part))
    return "".join(out)


def verbatim(lines):
    return [".nf"] + [roff(line) for line in lines] + [".fi"]


def prose(lines, bold):
    """Paragraphs; what is indented stays as it is."""
    out, i = [], 0
    while i < len(lines):
        if not lines[i]:
            out.append(".PP")
            i += 1
        elif lines[i].startswith("    "):
            j = i
            while j < len(lines) and (lines[j].startswith("    ") or not lines[j]):
                j += 1
            rows = lines[i:j]
            while not rows[-1]:
                rows.pop()
            out += [".PP", ".RS 4"] + verbatim([line[4:] for line in rows]) + [".RE", ".PP"]
            i = j
        else:
            item = lines[i].startswith("- ")
            if item:
                out.append(".IP \\(bu 2")
            out.append(marked(lines[i][2:] if item else lines[i].strip(), bold))
            i += 1
    clean = []
    for line in out:
        if line != ".PP" or (clean and not clean[-1].startswith((".PP", ".SH", ".IP"))):
            clean.append(line)
    while clean and clean[-1] == ".PP":
        clean.pop()
    return clean


def items(text):
    """What is between semicolons, outside of brackets."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == ";" and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    return [p for p in parts + [part.strip()] if p]


def listed(lines, bold):
    """One paragraph for each part; a list of its own stays as it is."""
    if any(re.match(r"- |  |-E\w+(, -E\w+)* {2,}", line) for line in lines):
        return listed_rows(lines, bold)
    out = []
    for part in items(" ".join(lines)):
        out += [".IP \\(bu 2", marked(part, bold)]
    return out


def listed_rows(lines, bold):
    out = []
    for line in lines:
        error = re.match(r"(-E\w+(?:, -E\w+)*) {2,}(.*)", line)
        if error:
            out += [".TP", ".B " + roff(error.group(1)), marked(error.group(2), bold)]
        elif line.startswith("- "):
            out += [".IP \\(bu 2", marked(line[2:], bold)]
        elif line.startswith("-E"):
            out += [".PP", marked(line, bold)]
        else:
            out.append(marked(line.strip(), bold))
    return out


def titled(title, lines):
    return [".SH " + title] + lines if lines else []


def head(name, version, header=None):
    return ['.\\" made from %s by docs/reference.py' % ("include/" + header if header else "include/weft.h"),
            '.TH "%s" 3 "" "weft %s" "weft"' % (name, version)]


def page(ref, block, bold):
    comment, header = block.comment, block.header
    shown = [s for s in block.symbols if s["kind"] in ("function", "macro")]
    names = [s["name"] for s in calls(block)]
    top = ref.tops[header]
    first = comment.summary().rstrip(".")
    out = head(names[0], ref.interface["version"], header)
    first = first.replace("`", "")
    if first[1:2].islower() or first[1:2] == " ":
        first = first[0].lower() + first[1:]
    out += [".SH NAME", roff(", ".join(names)) + " \\- " + roff(first)]
    code = ["#include <weft.h>", ""]
    for s in shown:
        is_call = s["kind"] == "macro" and s["parameters"]
        code += (s["name"] + s["parameters"] if is_call else say_code(s["declaration"])).split("\n")
    structs = [s for s in ref.symbols if s["kind"] == "struct" and s["name"] != "weft_scope"]
    for _ in range(2):  # what it takes, and what that is made of
        for s in structs:
            if s["declaration"] not in "\n".join(code) and re.search(r"\b%s\b" % s["name"], "\n".join(code)):
                code += [""] + s["declaration"].split("\n")
    out += [".SH SYNOPSIS"] + verbatim(code)
    told = list(comment.prose)
    if comment.inherits:
        told[0] = "As `%s`%s" % (comment.inherits.names()[0], told[0][len("The same"):])
    out += titled("DESCRIPTION", prose(told, bold))
    if any(s["kind"] == "function" for s in shown):
        out += titled("RETURN VALUE", listed(comment.key("returns") or [], bold))
        out += titled("ON ERROR", prose(comment.key("on error") or [], bold))
        context = next(s for s in shown if s["kind"] == "function")["context"]
        if context["cancel"]:
            out += titled("ERRORS", listed(top.keys.get("errors") or [], bold))
        cells = properties(context)
        rows = [("Where", "the scope's owner" if cells[0] == "owner" else cells[0]),
                ("Suspends a task", "not for tasks" if cells[1] == "—" else cells[1]),
                ("Cancellation point", cells[2]), ("In a signal handler", cells[3])]
        lines = [marked(context["text"] + ".", bold), ".PP"] + ["%s: %s" % (k, marked(v, bold)) for k, v in rows]
        lines[2:] = [x for line in lines[2:] for x in (line, ".br")][:-1]
        lines += [".PP", "\\fBweft\\fP(3) explains the words, and has the errors that most calls share."]
        out += titled("CONTEXT", lines)
        out += titled("ORDERING", prose(comment.key("ordering") or [], bold))
    beside = [b for b in ref.blocks if b.header == header and b is not block and has_page(b)]
    see = ["weft"] + [calls(b)[0]["name"] for b in beside]
    out += titled("SEE ALSO", [",\n".join("\\fB%s\\fP(3)" % roff(n) for n in see)])
    return names, "\n".join(out) + "\n"


def calls(block):
    """What the manual has by name: functions, and macros that look like them."""
    return [s for s in block.symbols if s["kind"] == "function" or s.get("parameters")]


def has_page(block):
    shown = calls(block)
    return shown and block.comment and all(s["kind"] == "macro" or s["context"] for s in shown)


def overview(ref, bold):
    out = head("weft", ref.interface["version"])
    out += [".SH NAME", "weft \\- coroutines on work\\-stealing threads, for C", ".SH SYNOPSIS"]
    out += verbatim(["#include <weft.h>", "", "cc program.c $(pkg-config --cflags --libs weft)"])
    for header, top in ref.tops.items():
        told = list(top.prose)
        told[0] = told[0].split(" - ", 1)[1]
        told[0] = told[0][0].upper() + told[0][1:]
        out += titled("<%s>" % header, prose(told, bold))
        pages = [s["name"] for b in ref.blocks if b.header == header and has_page(b) for s in calls(b)]
        out += [".PP", ",\n".join("\\fB%s\\fP(3)" % roff(n) for n in pages)] if pages else []
    return "\n".join(out) + "\n"


def manual(ref):
    """The pages, by the names of their files."""
    bold = {s["name"] for s in ref.symbols}
    out = {"weft.3": overview(ref, bold)}
    for block in ref.blocks:
        if has_page(block):
            names, text = page(ref, block, bold)
            out[names[0] + ".3"] = text
            for name in names[1:]:
                out[name + ".3"] = ".so man3/%s.3\n" % names[0]
    return out


def write_manual(ref, folder):
    os.makedirs(folder, exist_ok=True)
    pages = manual(ref)
    for name in os.listdir(folder):
        if name.endswith(".3") and name not in pages:
            os.remove(os.path.join(folder, name))
    for name, text in pages.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(text)


def main():
    ref = Reference(os.path.join(ROOT, "include"))
    for fault in ref.faults:
        print(fault, file=sys.stderr)
    if sys.argv[1:] == ["--update"]:
        with open(os.path.join(ROOT, "docs", "reference.md"), "w", encoding="utf-8") as f:
            f.write(index(ref))
        with open(os.path.join(ROOT, "docs", "cancellation.md"), "r+", encoding="utf-8") as f:
            text = cancellation(ref, f.read())
            f.seek(0)
            f.truncate()
            f.write(text)
    elif sys.argv[1:2] == ["--man"] and len(sys.argv) == 3:
        write_manual(ref, sys.argv[2])
        return 0  # a comment that is not ready yet keeps nobody from building
    elif sys.argv[1:]:
        raise SystemExit(__doc__)
    return 1 if ref.faults else 0


if __name__ == "__main__":
    sys.exit(main())
