"""What the clients need of the OpenAPI document: its types and its calls, in order.

A schema that cannot be told in all three languages is refused by name, so that a
client never has less than the document without anybody noticing.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

# Pages for browsers; every other operation is a call of each client.
PAGES = {"home", "docs"}
# Written by hand in each client: the one error type.
BY_HAND = {"Problem", "FieldError"}


@dataclass
class Type:
    """`kind` is one of int, float, str, bool, any, map, ref, list, words, null."""

    kind: str
    name: str = ""
    inner: Optional["Type"] = None
    words: Tuple[str, ...] = ()
    nullable: bool = False
    unsigned: bool = False


@dataclass
class Field:
    name: str
    type: Type
    required: bool
    doc: str
    const: Optional[str] = None


@dataclass
class Named:
    """`kind`: alias, words, object, union (by `tag`), either (by required fields)."""

    name: str
    kind: str
    doc: str
    type: Optional[Type] = None
    fields: List[Field] = field(default_factory=list)
    tag: str = ""
    cases: List[Tuple[str, str]] = field(default_factory=list)
    asked: bool = False  # a request's, to be made by callers
    only_body: bool = False  # the whole body of calls, and nothing else


@dataclass
class Call:
    id: str
    method: str
    path: str
    doc: str
    in_path: List[str]
    query: List[Field]
    body: Optional[str]
    body_required: bool
    answer: Optional[Type]  # None: nothing; kind str: text
    keyed: bool
    repeatable: bool
    items: Optional[Field]  # the list of a paged answer


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[_.\-]", name))


def sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text[-1] in ".!?" else text + "."


class Document:
    def __init__(self, path: str):
        with open(path, encoding="utf-8") as file:
            self.source: Dict[str, Any] = json.load(file)
        self.schemas: Dict[str, Any] = self.source["components"]["schemas"]
        self.named: Dict[str, Named] = {}
        for name in self.schemas:
            self._name(name)
        self.calls = [self._call(method, path, operation)
                      for path, methods in self.source["paths"].items()
                      for method, operation in methods.items()
                      if method != "parameters" and operation["operationId"] not in PAGES]
        self._mark_asked()

    def _follow(self, thing: Dict[str, Any]) -> Dict[str, Any]:
        while "$ref" in thing:
            at: Any = self.source
            for part in thing["$ref"].lstrip("#/").split("/"):
                at = at[part]
            thing = at
        return thing

    def _put(self, named: Named) -> None:
        if named.name in self.named:
            raise SystemExit(f"two types are called {named.name}: rename one under components/schemas")
        self.named[named.name] = named

    def _name(self, name: str) -> None:
        schema = self.schemas[name]
        doc = sentence(schema.get("description", ""))
        if "oneOf" in schema and "discriminator" in schema:
            tag = schema["discriminator"]["propertyName"]
            cases = [(word, ref.rsplit("/", 1)[1]) for word, ref in schema["discriminator"]["mapping"].items()]
            self._put(Named(name, "union", doc, tag=tag, cases=cases))
        elif "anyOf" in schema and all("$ref" in one for one in schema["anyOf"]):
            cases = [(camel(ref), ref) for ref in (one["$ref"].rsplit("/", 1)[1] for one in schema["anyOf"])]
            self._put(Named(name, "either", doc, cases=cases))
        elif "properties" in schema or "allOf" in schema:
            self._object(name, schema)
        elif schema.get("type") == "string" and "enum" in schema:
            self._put(Named(name, "words", doc, type=Type("words", words=tuple(schema["enum"]))))
        else:
            self._put(Named(name, "alias", doc, type=self._type(schema, name)))

    def _object(self, name: str, schema: Dict[str, Any]) -> None:
        properties: Dict[str, Any] = {}
        required: List[str] = []
        for part in schema.get("allOf", [schema]):
            part = self._follow(part)
            properties.update(part["properties"])
            required += part.get("required", [])
        fields = []
        for key, value in properties.items():
            const = value.get("const")
            kind = Type("str") if const is not None else self._type(value, name + camel(key))
            fields.append(Field(key, kind, key in required, sentence(value.get("description", "")), const))
        self._put(Named(name, "object", sentence(schema.get("description", "")), fields=fields))

    def _type(self, schema: Dict[str, Any], name: str) -> Type:
        """The type of a schema in place; `name` is what it is called if it has to have a name."""
        if "$ref" in schema:
            return Type("ref", name=schema["$ref"].rsplit("/", 1)[1])
        for several in ("anyOf", "allOf"):
            if several in schema:
                rest = [one for one in schema[several] if one.get("type") != "null"]
                if several == "anyOf" and {"type": "object"} in rest:
                    return Type("map")  # any object, some of which are described
                if len(rest) != 1:
                    raise SystemExit(f"{name}: {several} of several types: give it a name under components/schemas")
                return self._nullable(self._type(rest[0], name), len(rest) < len(schema[several]))
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        nullable = "null" in kinds
        kinds = [kind for kind in kinds if kind != "null"]
        if not kinds:
            return Type("null", nullable=True) if nullable else Type("any")
        if len(kinds) > 1:
            raise SystemExit(f"{name}: a value of several types cannot be told to callers")
        kind = kinds[0]
        if kind == "integer":
            return Type("int", nullable=nullable, unsigned=schema.get("minimum", 0) >= 0)
        if kind == "string" and "enum" in schema:
            words = tuple(word for word in schema["enum"] if word is not None)
            return Type("words", name=name, words=words, nullable=nullable)
        if kind == "array":
            return Type("list", inner=self._type(schema["items"], name + "Item"), nullable=nullable)
        if kind == "object":
            if "properties" not in schema:
                return Type("map", nullable=nullable)
            self._object(name, schema)
            return Type("ref", name=name, nullable=nullable)
        simple = {"string": "str", "boolean": "bool", "number": "float"}
        return Type(simple[kind], nullable=nullable)

    @staticmethod
    def _nullable(kind: Type, nullable: bool) -> Type:
        kind.nullable = kind.nullable or nullable
        return kind

    def _call(self, method: str, path: str, operation: Dict[str, Any]) -> Call:
        name = operation["operationId"]
        doc = sentence(operation["summary"])
        if operation.get("description"):
            doc += " " + sentence(operation["description"])
        in_path, query, keyed = [], [], False
        for given in operation.get("parameters", []):
            parameter = self._follow(given)
            if parameter["in"] == "path":
                in_path.append(parameter["name"])
            elif parameter["in"] == "query":
                kind = self._type(parameter["schema"], camel(name) + camel(parameter["name"]))
                text = sentence(parameter.get("description", ""))
                query.append(Field(parameter["name"], kind, parameter.get("required", False), text))
            elif parameter["name"] == "Idempotency-Key":
                keyed = True
        in_path.sort(key=lambda one: path.index("{" + one + "}"))
        body = operation.get("requestBody")
        schema = body and body["content"]["application/json"]["schema"]
        if schema and "$ref" not in schema:
            raise SystemExit(f"{name}: give its request body a name under components/schemas")
        body_name = schema["$ref"].rsplit("/", 1)[1] if schema else None
        if body_name and not self.named[body_name].fields:
            body_name = None  # nothing to say: `{}`
        answer = self._answer(name, operation)
        items = None
        shown = self.named.get(answer.name) if answer else None
        if shown and any(one.name == "cursor" for one in query) and any(one.name == "next_cursor" for one in shown.fields):
            items = next(one for one in shown.fields if one.type.kind == "list")
        repeatable = keyed or method in ("get", "delete") or bool(operation.get("x-repeatable"))
        return Call(name, method.upper(), path, doc, in_path, query, body_name, bool(body and body.get("required")),
                    answer, keyed, repeatable, items)

    def _answer(self, name: str, operation: Dict[str, Any]) -> Optional[Type]:
        good = [code for code in operation["responses"] if code.startswith("2")]
        if len(good) != 1:
            raise SystemExit(f"{name}: a call has one kind of success, not {good}")
        content = self._follow(operation["responses"][good[0]]).get("content", {})
        if not content:
            return None
        if "application/json" not in content:
            return Type("str")
        return self._type(content["application/json"]["schema"], camel(name) + "Answer")

    def _mark_asked(self) -> None:
        todo = [call.body for call in self.calls if call.body]
        while todo:
            named = self.named[todo.pop()]
            if not named.asked:
                named.asked = True
                todo += [one.name for one in map(self._innermost, named.fields) if one.kind == "ref"]
        parts = {self._innermost(one).name for named in self.named.values() for one in named.fields}
        parts |= {call.answer.name for call in self.calls if call.answer}
        for call in self.calls:
            if call.body and call.body not in parts:
                self.named[call.body].only_body = True

    @staticmethod
    def _innermost(one: Field) -> Type:
        kind = one.type
        while kind.inner:
            kind = kind.inner
        return kind

    def types(self) -> List[Named]:
        """Those to be generated, each after those that it needs."""
        done: Dict[str, Named] = {}

        def visit(name: str) -> None:
            if name in done or name in BY_HAND or name not in self.named:
                return
            named = self.named[name]
            needs = [self._innermost(one).name for one in named.fields] + [case for _, case in named.cases]
            if named.type:
                needs.append((named.type.inner or named.type).name)
            for need in needs:
                if need != name:
                    visit(need)
            done[name] = named

        for name in self.named:
            visit(name)
        return [named for named in done.values() if named.fields or named.kind != "object"]

    def resolve(self, kind: Type) -> Type:
        """Through aliases, down to what it is."""
        while kind.kind == "ref" and self.named[kind.name].kind == "alias":
            target = self.named[kind.name].type
            assert target
            kind = self._nullable(Type(**vars(target)), kind.nullable)
        return kind
