"""The generated part of hongbao.py: a dataclass a type, a method a call."""

import keyword
from typing import List

from document import Call, Document, Field, Named, Type, snake


def hint(kind: Type) -> str:
    if kind.kind == "null":
        return "None"
    if kind.kind == "list":
        assert kind.inner
        base = f"List[{hint(kind.inner)}]"
    elif kind.kind == "words":
        base = "Literal[" + ", ".join(f'"{word}"' for word in kind.words) + "]"
    elif kind.kind == "ref":
        base = kind.name
    else:
        base = {"int": "int", "str": "str", "bool": "bool", "any": "Any", "map": "Dict[str, Any]", "float": "float"}[kind.kind]
    return f"Optional[{base}]" if kind.nullable else base


def name_of(one: Field) -> str:
    return one.name + "_" if keyword.iskeyword(one.name) else one.name


def docstring(text: str, indent: str) -> List[str]:
    text = text.replace("\\", "\\\\").replace('"""', "'''")
    if len(text) < 90:
        return [f'{indent}"""{text}"""']
    return [f'{indent}"""'] + wrapped(text, indent) + [f'{indent}"""']


def wrapped(text: str, indent: str) -> List[str]:
    lines, line = [], indent
    for word in text.split():
        if len(line) + len(word) >= 112:
            lines.append(line.rstrip())
            line = indent
        line += word + " "
    return lines + [line.rstrip()]


def type_lines(named: Named) -> List[str]:
    comment = wrapped(named.doc, "# ") if named.doc else []
    if named.kind in ("alias", "words"):
        assert named.type
        return comment + [f"{named.name} = {hint(named.type)}"]
    if named.kind == "union":
        cases = list(dict.fromkeys(case for _, case in named.cases))
        return comment + [
            f"{named.name} = Union[{', '.join(cases + ['Unknown'])}]",
            f"_READERS[{named.name}] = _union(",
            f'    "{named.tag}",',
            "    {",
        ] + [f'        "{word}": {case},' for word, case in named.cases] + ["    },", ")"]
    if named.kind == "either":
        raise AssertionError("written by `either`")
    lines = ["@dataclass(frozen=True)", f"class {named.name}:"]
    if named.doc:
        lines += docstring(named.doc, "    ") + [""]
    required = [one for one in named.fields if one.required]
    for one in required + [one for one in named.fields if not one.required]:
        of = f'Literal["{one.const}"]' if one.const else hint(one.type)
        if not one.required:
            of, default = (f"Union[{of}, Unset]", " = UNSET") if named.asked else (of if one.type.nullable else f"Optional[{of}]", " = None")
        else:
            default = ""
        lines.append(f"    {name_of(one)}: {of}{default}")
        if one.doc:
            lines += docstring(one.doc, "    ")
    return lines


def either(known: Document, named: Named) -> List[str]:
    cases = []
    for _, ref in reversed(named.cases):
        case = known.named[ref]
        key = case.tag or next(one.name for one in case.fields if one.required)
        cases.append(f'("{key}", {ref})')
    return [f"{named.name} = Union[{', '.join(ref for _, ref in named.cases)}]",
            f"_READERS[{named.name}] = _either({', '.join(cases)})"]


def arguments(known: Document, call: Call, body: bool = True) -> List[str]:
    """The arguments by name: those of the query or of the body."""
    sent = known.named[call.body].fields if call.body and body else call.query
    lines = []
    for one in [one for one in sent if one.required] + [one for one in sent if not one.required]:
        of = hint(one.type)
        if not one.required:
            of = f"Union[{of}, Unset] = UNSET" if call.body else f"Optional[{of}] = None"
        lines.append(f"{name_of(one)}: {of}")
    return lines


def answer(call: Call) -> str:
    if call.answer is None:
        return "None"
    return "bytes" if call.answer.kind == "str" else hint(call.answer)


def call_lines(known: Document, call: Call) -> List[str]:
    method = snake(call.id)
    sent = known.named[call.body].fields if call.body else call.query
    in_path = [f"{name}: str" for name in call.in_path]
    path = call.path
    for name in call.in_path:
        path = path.replace("{" + name + "}", "{_part(" + name + ")}")
    pairs = ", ".join(f'"{one.name}": {name_of(one)}' for one in sent)
    parts = [answer(call), f'"{call.method}"', ("f" if call.in_path else "") + f'"{path}"']
    if call.body:
        parts.append(f"body={{{pairs}}}")
    elif call.method == "POST":
        parts.append("body={}")
    elif sent:
        parts.append(f"query={{{pairs}}}")
    common = ["limit_s: Optional[float] = None"]
    if call.keyed:
        common.insert(0, "idempotency_key: Optional[str] = None")
        parts += ["keyed=True", "idempotency_key=idempotency_key"]
    if not call.repeatable:
        parts.append("repeatable=False")
    parts.append("limit_s=limit_s")
    returns = "str" if answer(call) == "bytes" else answer(call)
    lines = []
    page = method + ("_page" if call.items else "")
    named = arguments(known, call)
    if call.items:
        assert call.items.type.inner
        asked = [one for one in named if not one.startswith("cursor:")]
        names = [one.split(":")[0] for one in asked + common]
        given = ", ".join(call.in_path + [f"{name}={name}" for name in names] + ["cursor=cursor"])
        lines += signature(method, in_path, asked + common, f"Iterator[{hint(call.items.type.inner)}]")
        lines += docstring(f"{call.doc} All of them, page after page as they are asked for; `limit` is a page's size.", " " * 8)
        lines += [f'        return self._pages(lambda cursor: self.{page}({given}), "{call.items.name}")', ""]
    lines += signature(page, in_path, named + common, returns)
    lines += docstring(call.doc + (" One page." if call.items else ""), " " * 8)
    joined = ", ".join(parts)
    if len(joined) < 95:
        made = [f"self._call({joined})"]
    else:
        made = ["self._call("] + [f"            {part}," for part in parts] + ["        )"]
    value = "\n".join(made)
    if returns == "None":
        lines.append(f"        {value}")
    else:
        lines += [f"        answer: {returns} = {value}", "        return answer"]
    return lines


def signature(method: str, in_path: List[str], named: List[str], returns: str) -> List[str]:
    given = ["self"] + in_path + (["*"] + named if named else [])
    line = f"    def {method}({', '.join(given)}) -> {returns}:"
    if len(line) <= 116:
        return [line]
    return [f"    def {method}("] + [f"        {one}," for one in given] + [f"    ) -> {returns}:"]


def write(known: Document) -> str:
    lines: List[str] = []
    names = []
    aliases = False
    for named in known.types():
        if named.only_body:
            continue  # its fields are the arguments of a method
        block = either(known, named) if named.kind == "either" else type_lines(named)
        short = named.kind != "object"
        lines += ([] if aliases and short else ["", ""]) + block
        aliases = short
        names.append(named.name)
    lines += ["", "__all__ += ["] + [f'    "{name}",' for name in sorted(names)] + ["]"]
    table = [f'        ("{call.method}", "{call.path}"),' for call in known.calls]
    lines += ["", "", "class Client(_Transport):"]
    lines += docstring("Every call of the API, one method each; see `Error` for what they raise.", "    ")
    lines += ["", "    OPERATIONS: ClassVar[List[Tuple[str, str]]] = ["] + table + ["    ]"]
    for call in known.calls:
        lines += [""] + call_lines(known, call)
    return "\n".join(lines) + "\n"
