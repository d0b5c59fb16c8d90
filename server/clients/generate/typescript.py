"""The generated part of hongbao.ts: an interface a type, a method a call."""

import json
from typing import List, Optional

from document import BY_HAND, Call, Document, Named, Type


def spell(kind: Type, asked: bool) -> str:
    if kind.kind == "null":
        return "null"
    if kind.kind == "list":
        assert kind.inner
        inner = spell(kind.inner, asked)
        base = f"Array<{inner}>"
    elif kind.kind == "words":
        words = " | ".join(json.dumps(word) for word in kind.words)
        base = words if asked else f"Open<{words}>"
    elif kind.kind == "ref":
        base = kind.name
    else:
        base = {"int": "number", "float": "number", "str": "string", "bool": "boolean", "any": "unknown",
                "map": "Record<string, unknown>"}[kind.kind]
    return base + " | null" if kind.nullable else base


def comment(text: str, indent: str = "") -> List[str]:
    return [f"{indent}/** {text.replace('*/', '* /')} */"] if text else []


def reads(known: Document, kind: Type) -> bool:
    """Whether a value has to be looked at, because something in it may be unknown or is an error."""
    if kind.kind == "list":
        assert kind.inner
        return reads(known, kind.inner)
    if kind.kind != "ref":
        return False
    if kind.name in BY_HAND:
        return kind.name == "Problem"
    named = known.named[kind.name]
    if named.kind in ("union", "either"):
        return True
    return any(reads(known, one.type) for one in named.fields)


def read(known: Document, kind: Type, value: str) -> str:
    if kind.kind == "list":
        assert kind.inner
        return f"({value} as unknown[]).map((one) => {read(known, kind.inner, 'one')})"
    if kind.name == "Problem":
        return f"new Problem({value} as Record<string, unknown>)"
    made = f"read{kind.name}({value})"
    return f"({value} === null ? null : {made})" if kind.nullable else made


def type_lines(known: Document, named: Named) -> List[str]:
    lines = comment(named.doc)
    if named.kind in ("alias", "words"):
        assert named.type
        return lines + [f"export type {named.name} = {spell(named.type, named.asked)};"]
    if named.kind == "union":
        cases = list(dict.fromkeys(case for _, case in named.cases))
        unknown = f'{{ {named.tag}: "unknown"; name: string; body: Record<string, unknown> }}'
        words = ", ".join(json.dumps(word) for word, _ in named.cases)
        return lines + [f"export type {named.name} = {' | '.join(cases)} | {unknown};",
                        f"function read{named.name}(value: unknown): {named.name} {{",
                        f"  return union(value, {json.dumps(named.tag)}, [{words}]) as {named.name};", "}"]
    if named.kind == "either":
        refs = [ref for _, ref in named.cases]
        lines += [f"export type {named.name} = {' | '.join(refs)};",
                  f"function read{named.name}(value: unknown): {named.name} {{"]
        for ref in reversed(refs):
            case = known.named[ref]
            key = case.tag or next(one.name for one in case.fields if one.required)
            kind = Type("ref", name=ref)
            made = read(known, kind, "value") if reads(known, kind) else f"value as unknown as {ref}"
            lines.append(f'  if (isObject(value) && "{key}" in value) return {made};')
        return lines + [f'  throw new Unexpected("an answer is no {named.name}");', "}"]
    lines.append(f"export interface {named.name} {{")
    for one in named.fields:
        of = json.dumps(one.const) if one.const else spell(one.type, named.asked)
        lines += comment(one.doc, "  ") + [f"  {one.name}{'' if one.required else '?'}: {of};"]
    lines.append("}")
    if reads(known, Type("ref", name=named.name)):
        lines += [f"function read{named.name}(value: unknown): {named.name} {{",
                  f"  const whole = value as Record<string, unknown>;",
                  f"  return {{", "    ...whole,"]
        for one in named.fields:
            if reads(known, one.type):
                lines.append(f"    {one.name}: {read(known, one.type, 'whole.' + one.name)},")
        lines += [f"  }} as unknown as {named.name};", "}"]
    return lines


def query_type(call: Call, without: Optional[str] = None) -> str:
    parts = [f"{one.name}{'' if one.required else '?'}: {spell(one.type, True)}" for one in call.query if one.name != without]
    return "{ " + "; ".join(parts) + " }"


def call_lines(known: Document, call: Call) -> List[str]:
    path = call.path
    for name in call.in_path:
        path = path.replace("{" + name + "}", "${pathPart(" + name + ")}")
    path = f"`{path}`" if call.in_path else json.dumps(path)
    parts = [f'method: "{call.method}"', f"path: {path}"]
    given = [f"{name}: string" for name in call.in_path]
    if call.body:
        given.append(f"body: {call.body}")
        parts.append("body")
    elif call.method == "POST":
        parts.append("body: {}")
    elif call.query:
        given.append(f"query: {query_type(call)}" + ("" if any(one.required for one in call.query) else " = {}"))
        wait = any(one.name == "wait_s" for one in call.query)
        parts.append("query: { wait_s: undefined, ...query }" if wait else "query")
    if call.keyed:
        parts.append("keyed: true")
    if not call.repeatable:
        parts.append("repeatable: false")
    text = call.answer is not None and call.answer.kind == "str"
    if text:
        parts.append("text: true")
    returns = "void" if call.answer is None else spell(call.answer, False)
    options = "KeyedOptions" if call.keyed else "CallOptions"
    method = call.id + ("Page" if call.items else "")
    lines = []
    if call.items:
        item = spell(call.items.type.inner, False)
        lines += comment(f"{call.doc} All of them, page after page as they are asked for; `limit` is a page's size.", "  ")
        asked = given[:-1] + [f"query: {query_type(call, 'cursor')} = {{}}"]
        arguments = ", ".join(call.in_path + ["{ ...query, cursor }", "options"])
        lines += [f"  {call.id}({', '.join(asked)}, options: CallOptions = {{}}): AsyncGenerator<{item}> {{",
                  "    return this.pages(async (cursor) => {",
                  f"      const shown = await this.{method}({arguments});",
                  f"      return {{ items: shown.{call.items.name}, next: shown.next_cursor }};",
                  "    });", "  }", ""]
    lines += comment(call.doc + (" One page." if call.items else ""), "  ")
    lines.append(f"  async {method}({', '.join(given + [f'options: {options} = {{}}'])}): Promise<{returns}> {{")
    made = f"await this.call({{ {', '.join(parts)} }}, options)"
    if call.answer is None:
        lines.append(f"    {made};")
    elif text or call.answer.kind == "map":
        lines.append(f"    return ({made}) as {returns};")
    else:
        named = known.named[call.answer.name]
        required = ", ".join(json.dumps(one.name) for one in named.fields if one.required)
        lines.append(f"    const answer = checked<{returns}>({made}, [{required}]);")
        lines.append(f"    return {read(known, call.answer, 'answer') if reads(known, call.answer) else 'answer'};")
    return lines + ["  }"]


def write(known: Document) -> str:
    lines: List[str] = []
    for named in known.types():
        lines += [""] + type_lines(known, named)
    lines += ["", "/** Every call of the API, one method each; see `HongbaoError` for what they throw. */",
              "export class Client extends Transport {",
              "  static readonly OPERATIONS: ReadonlyArray<readonly [string, string]> = ["]
    lines += [f'    ["{call.method}", "{call.path}"],' for call in known.calls] + ["  ];"]
    for call in known.calls:
        lines += [""] + call_lines(known, call)
    return "\n".join(lines) + "\n}\n"
