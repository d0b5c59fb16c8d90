"""The generated files of the Rust client: a type a schema, a method a call."""

from typing import List

from document import Call, Document, Field, Named, Type, camel, snake

HEAD = "// Written by server/clients/generate from server/src/openapi.json; do not edit.\n\n"
KEYWORDS = {"type", "match", "ref", "in", "use", "where", "move", "mod", "enum", "struct", "fn", "for", "loop", "final"}


def name_of(name: str) -> str:
    name = snake(name)
    return "r#" + name if name in KEYWORDS else name


def spell(kind: Type) -> str:
    if kind.kind == "list":
        assert kind.inner
        base = f"Vec<{spell(kind.inner)}>"
    elif kind.kind in ("words", "ref"):
        base = "crate::Problem" if kind.name == "Problem" else "crate::FieldError" if kind.name == "FieldError" else kind.name
    else:
        base = {"int": "u64" if kind.unsigned else "i64", "float": "f64", "str": "String", "bool": "bool", "null": "()",
                "any": "serde_json::Value", "map": "serde_json::Map<String, serde_json::Value>"}[kind.kind]
    return f"Option<{base}>" if kind.nullable else base


def doc(text: str, indent: str = "") -> List[str]:
    text = text.replace("[", "\\[").replace("<", "\\<") if "`" not in text else text
    lines, line = [], indent + "///"
    for word in text.split():
        if len(line) + len(word) >= 118:
            lines.append(line)
            line = indent + "///"
        line += " " + word
    return lines + [line]


def of(one: Field, named: Named) -> str:
    """The type of a field: what may be left out is an Option, around that of what may be null."""
    if one.required or (not named.asked and one.type.nullable):
        return spell(one.type)
    return f"Option<{spell(one.type)}>"


def inline_words(named: Named) -> List[str]:
    lines: List[str] = []
    for one in named.fields:
        if one.type.kind == "words" and one.type.name:
            lines += words(one.type.name, one.type.words, f"`{one.name}` of [`{named.name}`].") + [""]
    return lines


def words(name: str, known: tuple, text: str) -> List[str]:
    pairs = ", ".join(f'{camel(word)} = "{word}"' for word in known)
    return ["words! {"] + doc(text, "    ") + [f"    {name} {{ {pairs} }}", "}"]


def plain(known: Document, one: Field) -> str:
    return known.resolve(one.type).kind


def into(known: Document, one: Field) -> "tuple[str, str]":
    """How an argument of a maker is taken, and what is kept of it."""
    name = name_of(one.name)
    if plain(known, one) == "str" and not one.type.nullable:
        return f"{name}: impl Into<String>", f"{name}.into()"
    return f"{name}: {spell(one.type)}", name


def type_lines(known: Document, named: Named) -> List[str]:
    text = named.doc or f"`{named.name}` of the API."
    if named.kind == "alias":
        assert named.type
        return doc(text) + [f"pub type {named.name} = {spell(named.type)};"]
    if named.kind == "words":
        assert named.type
        return words(named.name, named.type.words, text)
    if named.kind == "union":
        pairs = ", ".join(f'"{word}" => {camel(word)}({case})' for word, case in named.cases)
        return ["union! {"] + doc(text, "    ") + [f'    {named.name} by "{named.tag}" {{ {pairs} }}', "}"]
    if named.kind == "either":
        lines = doc(text) + ["#[derive(Clone, Debug, PartialEq, Deserialize)]", "#[serde(untagged)]", "#[non_exhaustive]", f"pub enum {named.name} {{"]
        for variant, ref in named.cases:
            lines += [f"    /// See [`{ref}`].", f"    {variant}({ref}),"]
        return lines + ["}"]
    shown = [one for one in named.fields if one.const is None and one.type.kind != "null"]
    derives = "Clone, Debug, PartialEq, Serialize, Deserialize" if named.asked else "Clone, Debug, PartialEq, Deserialize"
    lines = inline_words(named) + doc(text) + [f"#[derive({derives})]", "#[non_exhaustive]", f"pub struct {named.name} {{"]
    for one in shown:
        lines += doc(one.doc or f"`{one.name}`.", "    ")
        if not one.required:
            skip = ', skip_serializing_if = "Option::is_none"' if named.asked else ""
            lines.append(f"    #[serde(default{skip})]")
        if name_of(one.name).removeprefix("r#") != one.name:
            lines.append(f'    #[serde(rename = "{one.name}")]')
        lines.append(f"    pub {name_of(one.name)}: {of(one, named)},")
    lines.append("}")
    if not named.asked:
        return lines
    required = [one for one in shown if one.required]
    free = [one for one in shown if not one.required]
    taken = ", ".join(into(known, one)[0] for one in required)
    kept = [f"{name_of(one.name)}: {into(known, one)[1]}" if into(known, one)[1] != name_of(one.name) else name_of(one.name) for one in required]
    kept += [f"{name_of(one.name)}: None" for one in free]
    default = ["", f"impl Default for {named.name} {{", "    fn default() -> Self {", "        Self::new()", "    }", "}"] if not required else []
    lines += ["", f"impl {named.name} {{", "    /// With what there must be; the rest is left out.", f"    pub fn new({taken}) -> Self {{",
              f"        {named.name} {{ {', '.join(kept)} }}", "    }"]
    for one in free:
        argument, value = into(known, one)
        if one.type.nullable:
            inner = Type(**{**vars(one.type), "nullable": False})
            argument, value = f"{name_of(one.name)}: impl Into<Option<{spell(inner)}>>", f"{name_of(one.name)}.into()"
        lines += [""] + doc(f"Sets `{one.name}`." + (" `None` is sent as null." if one.type.nullable else ""), "    ")
        lines += ["    #[must_use]", f"    pub fn {name_of(one.name)}(mut self, {argument}) -> Self {{",
                  f"        self.{name_of(one.name)} = Some({value});", "        self", "    }"]
    return lines + ["}"] + default


def query(call: Call) -> str:
    return camel(call.id) + "Query"


def query_lines(known: Document, call: Call) -> List[str]:
    named = Named(query(call), "object", f"What may be asked of [`{snake(call.id)}`](crate::Client::{snake(call.id)}).",
                  fields=[one for one in call.query if not (call.items and one.name == "cursor")], asked=True)
    lines = type_lines(known, named)
    lines = [line.replace("Serialize, Deserialize", "Default") if line.startswith("#[derive") else line
             for line in lines if "#[serde" not in line]
    end = [at for at, line in enumerate(lines) if line.startswith("impl Default")]
    if end:
        lines = lines[: end[0] - 1]
    def value(one: Field) -> str:
        text = f"self.{name_of(one.name)}"
        return f"Some({text}.to_string())" if one.required else f"{text}.as_ref().map(ToString::to_string)"

    told = [f'            ("{one.name}", {value(one)}),' for one in named.fields]
    return lines + ["", f"impl {named.name} {{", f"    pub(crate) fn told(&self) -> [(&'static str, Option<String>); {len(told)}] {{",
                    "        ["] + told + ["        ]", "    }", "}"]


def types(known: Document) -> str:
    lines = ["//! The types of the API. What is not known of a newer server is kept or passed over.", "",
             "use crate::word::{union, words};", "use serde::{Deserialize, Serialize};"]
    for named in known.types():
        lines += [""] + type_lines(known, named)
    for call in known.calls:
        if call.query:
            lines += [""] + query_lines(known, call)
    return HEAD + "\n".join(lines) + "\n"


def call_lines(known: Document, call: Call) -> List[str]:
    method = snake(call.id)
    path, parts = call.path, []
    for name in call.in_path:
        path = path.replace("{" + name + "}", "{}")
        parts.append(snake(name))
    given = ["&self"] + [f"{name}: &str" for name in parts]
    made = f'Call::new(Method::{call.method}, "{path}", &[{", ".join(parts)}])'
    if call.body:
        given.append(f"body: &types::{call.body}")
        made += ".json(body)"
    elif call.method == "POST":
        made += ".json(&serde_json::json!({}))"
    elif call.query:
        given.append(f"query: &types::{query(call)}")
        made += ".query(&query.told())"
    if any(one.name == "wait_s" for one in call.query):
        made += ".poll_s(query.wait_s.unwrap_or(POLL_S))"
    made += (".keyed()" if call.keyed else "") + ("" if call.repeatable else ".not_repeatable()")
    if call.items:
        assert call.items.type.inner and call.answer
        lines = doc(f"{call.doc} All of them, page after page as they are asked for; `limit` is a page's size.", "    ")
        lines += [f"    pub fn {method}({', '.join(given)}) -> Pages<types::{spell(call.items.type.inner)}> {{",
                  f"        Pages::new(self, {made}, |body| {{",
                  f"            read::<types::{call.answer.name}>(body).map(|page| (page.{name_of(call.items.name)}, page.next_cursor))",
                  "        })", "    }"]
        return lines
    lines = doc(call.doc, "    ") + ["    ///", "    /// # Errors", "    /// See [`Error`]."]
    if call.answer is None:
        returns, end = "()", "self.call({}).await.map(drop)"
    elif call.answer.kind == "str":
        returns, end = "String", "Ok(String::from_utf8_lossy(&self.call({}).await?).into_owned())"
    else:
        kind = spell(call.answer)
        returns, end = (kind if call.answer.kind == "map" else "types::" + kind), "read(&self.call({}).await?)"
    lines.append(f"    pub async fn {method}({', '.join(given)}) -> Result<{returns}, Error> {{")
    return lines + ["        " + end.replace("{}", made, 1), "    }"]


def calls(known: Document) -> str:
    lines = ["//! Every call of the API.", "", "use crate::error::Error;", "use crate::transport::{Call, Client, Pages, POLL_S, read};",
             "use crate::types;", "use hyper::Method;", "",
             "/// Method and path of every call.", "pub const OPERATIONS: &[(&str, &str)] = &["]
    lines += [f'    ("{call.method}", "{call.path}"),' for call in known.calls] + ["];", "", "impl Client {"]
    for at, call in enumerate(known.calls):
        lines += ([""] if at else []) + call_lines(known, call)
    return HEAD + "\n".join(lines) + "\n}\n"
