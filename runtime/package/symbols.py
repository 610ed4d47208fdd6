#!/usr/bin/env python3
"""symbols.py INCLUDE_DIR [OUTPUT] - the public interface as JSON, for whoever writes a binding.

It reads the headers as they are written here: a function is declared by WEFT_API, a struct by `typedef struct` or
`struct weft_x`, a constant by a #define in capitals. What it does not understand is an error, so that nothing is
left out silently. Sizes are not in it, since they depend on the processor: ask weft_sizeof().
"""
import json
import os
import re
import sys

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
FUNCTION = re.compile(r"(WEFT_CHECK\s+)?\bWEFT_API\s+([^;]+?)\s*;")
PROTOTYPE = re.compile(r"^(?P<type>.+?[\s*])(?P<name>weft_\w+)\((?P<arguments>.*)\)$")
MARK = re.compile(r"\s*\bWEFT_PRINTF\([^)]*\)$")
STRUCT = re.compile(r"\bstruct\s+(weft_\w+)\s*\{([^}]*)\}")
OPAQUE = re.compile(r"\btypedef\s+struct\s+(weft_\w+)\s+\1;")
ALIAS = re.compile(r"\btypedef\s+(?!struct\b)([^;{]+?)\b(weft_\w+)((?:\([^;]*\))?);")
DEFINE = re.compile(r"^#define\s+(WEFT_[A-Z0-9_]+)[ \t]+(\S.*?)\s*$", re.M)
DIRECTIVE = re.compile(r"^#(?:[^\n]*\\\n)*[^\n]*$", re.M)
CALLBACK = re.compile(r"^(.+?)\(\s*\*\s*(\w+)\s*\)\s*\((.*)\)$")
PLAIN = re.compile(r"^(.*?[\s*])(\w+)((?:\[\w*\])*)$")
NOT_CONSTANTS = {"WEFT_API", "WEFT_CHECK"}


def split(text, at):
    """Splits at the separators that are in no bracket."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == at and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += c
    parts.append(part)
    return [" ".join(p.split()) for p in parts if p.strip()]


def variable(text, where):
    callback = CALLBACK.match(text)
    if callback:
        returns, name, arguments = callback.groups()
        return {"name": name, "type": "%s(*)(%s)" % (returns, arguments)}
    plain = PLAIN.match(text)
    if not plain or "," in plain.group(1):
        raise SystemExit("%s: cannot read %r" % (where, text))
    kind, name, array = plain.groups()
    return {"name": name, "type": kind.strip() + array}


def read(root):
    out = {"version": "", "functions": [], "structs": [], "opaque": [], "types": [], "constants": []}
    for header in sorted(os.listdir(os.path.join(root, "weft"))):
        if not header.endswith(".h"):
            continue
        header = "weft/" + header
        with open(os.path.join(root, header), encoding="utf-8") as f:
            text = COMMENT.sub(" ", f.read())
        for name, value in DEFINE.findall(text):
            if name not in NOT_CONSTANTS and not name.endswith("_H"):
                out["constants"].append({"name": name, "header": header, "value": value})
        text = DIRECTIVE.sub("", text)
        found = 0
        for m in FUNCTION.finditer(text):
            declaration = MARK.sub("", " ".join(m.group(2).split()))
            p = PROTOTYPE.match(declaration)
            if not p:
                raise SystemExit("%s: cannot read %r" % (header, declaration))
            arguments = split(p.group("arguments"), ",")
            variadic = arguments[-1:] == ["..."]
            arguments = [] if arguments == ["void"] else arguments[:-1] if variadic else arguments
            found += 1
            out["functions"].append({
                "name": p.group("name"), "header": header, "returns": p.group("type").strip(),
                "arguments": [variable(a, header) for a in arguments],
                "variadic": variadic, "result_must_be_used": bool(m.group(1))})
        if found != len(re.findall(r"\bWEFT_API\b", text)):
            raise SystemExit("%s: a WEFT_API was not understood" % header)
        for name, body in STRUCT.findall(text):
            out["structs"].append({"name": name, "header": header,
                                   "fields": [variable(f, header) for f in split(body, ";")]})
        out["opaque"] += [n for n in OPAQUE.findall(text) if n not in out["opaque"]]
        for kind, name, arguments in ALIAS.findall(text):
            out["types"].append({"name": name, "header": header, "type": kind.strip() + arguments})
    known = {s["name"] for s in out["structs"]}
    out["opaque"] = [n for n in out["opaque"] if n not in known]
    parts = {c["name"]: c["value"] for c in out["constants"]}
    out["version"] = ".".join(parts["WEFT_VERSION_" + p] for p in ("MAJOR", "MINOR", "PATCH"))
    for kind in ("functions", "structs", "types", "constants"):
        out[kind].sort(key=lambda o: o["name"])
    out["opaque"].sort()
    return out


def main():
    text = json.dumps(read(sys.argv[1]), indent=1) + "\n"
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", encoding="utf-8") as f:
            f.write(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
